"""Where `tests/sinks/kill_trials.py` delivers to when it is a real MLflow server."""

from pathlib import Path

from bus import BatchLimits, list_cursors
from sinks.mlflow import MlflowSink
from tests.sinks.kill_trials import Destination, compare_points
from tests.vendors.mlflow_server import RealServer


class SmallMlflow(MlflowSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=200, age=0.0)


def destination(server: RealServer) -> Destination:
    """Runs that are resumed, at steps that were trained before, on a server that lives."""

    def compare(run_dir: Path) -> list[str]:
        run_id = list_cursors(run_dir)["mlflow"].state["run_id"]
        assert isinstance(run_id, str)
        points = server.run(run_id)["metrics"].get("n", [])
        return compare_points(run_dir, [(step, float(value)) for step, value, _ in points])

    return Destination(
        sink="tests.vendors.mlflow_kills:SmallMlflow",
        name="mlflow",
        compare=compare,
        settings={"tracking_uri": server.url},
        moment=1.5,  # finding the experiment and making the run take a part of it
        resumes=True,
    )
