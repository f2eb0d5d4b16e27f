"""Where `tests/sinks/kill_trials.py` delivers to when it is ClearML: a stand-in that lives."""

from pathlib import Path

from bus import BatchLimits, list_cursors
from sinks.clearml import ClearmlSink
from tests.servers.clearml import StandIn
from tests.sinks.kill_trials import Destination, Trials, Victim, run_kill_trials, steps_of


class SmallClearml(ClearmlSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=100, age=0.0)


def run_clearml_kills(count: int, seed: int, victim: Victim) -> Trials:
    """Kill so many who train or deliver, resuming at steps that were trained before."""
    with StandIn() as server:
        to = Destination(
            sink="tests.sinks.clearml_kills:SmallClearml",
            name="clearml",
            compare=lambda run_dir: compare_points(server, run_dir),
            settings={
                "api_host": server.url,
                "files_host": server.url,
                "api_access_key": "FAKE",
                "api_secret_key": "FAKE",
            },
            moment=0.6,
            resumes=True,
        )
        return run_kill_trials(count, seed, victim, to)


def compare_points(server: StandIn, run_dir: Path) -> list[str]:
    """What is wrong on the server, compared to the journal: each step of the run is there, once.

    A step beyond the last attempt's last stays if it had been delivered.
    """
    task_id = list_cursors(run_dir)["clearml"].state["task_id"]
    task = server.tasks[task_id]
    arrived = dict(task.series("train", "n"))
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(arrived)} points lost, such as that of {min(lost)}")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} points that were never journalled, such as {min(strange)}")
    if changed := [step for step, value in arrived.items() if value != float(step)]:
        wrong.append(f"{len(changed)} points have another value, such as that of {min(changed)}")
    comments = [each.fields["comment"] for each in server.tasks.values()]
    if twice := len(comments) - len(set(comments)):
        wrong.append(f"{twice} tasks too many")
    if task.status not in ("completed", "failed"):
        wrong.append(f"the task was left {task.status}")
    return wrong
