"""Where `tests/sinks/kill_trials.py` delivers to when it is a real MLflow server."""

from collections import Counter
from pathlib import Path

from bus import BatchLimits, list_cursors
from sinks.mlflow import MlflowSink
from tests.sinks.kill_trials import Destination, steps_of
from tests.vendors.mlflow_server import RealServer


class SmallMlflow(MlflowSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=200, age=0.0)


def destination(server: RealServer) -> Destination:
    """Runs that are resumed, at steps that were trained before, on a server that lives."""

    def compare(run_dir: Path) -> list[str]:
        return compare_points(server, run_dir)

    return Destination(
        sink="tests.vendors.mlflow_kills:SmallMlflow",
        name="mlflow",
        compare=compare,
        settings={"tracking_uri": server.url},
        moment=1.5,  # finding the experiment and making the run take a part of it
        resumes=True,
    )


def compare_points(server: RealServer, run_dir: Path) -> list[str]:
    """What is wrong on the server, compared to the journal: each step is there once.

    A step that a resumed attempt trained again keeps its first value, and one beyond the last
    attempt's last stays if it had been delivered.
    """
    run_id = list_cursors(run_dir)["mlflow"].state["run_id"]
    assert isinstance(run_id, str)
    points = server.run(run_id)["metrics"].get("n", [])
    arrived = Counter(step for step, _, _ in points)
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(points)} points lost, such as that of step {min(lost)}")
    if twice := [step for step, times in arrived.items() if times > 1]:
        wrong.append(f"{len(twice)} points twice, such as that of step {min(twice)}")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} points that were never journalled, such as {min(strange)}")
    if changed := [step for step, value, _ in points if value != str(float(step))]:
        wrong.append(f"{len(changed)} points have another value, such as that of {min(changed)}")
    return wrong
