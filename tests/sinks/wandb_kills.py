"""Where `tests/sinks/kill_trials.py` delivers to when it is the W&B stand-in."""

from collections import Counter
from pathlib import Path

from bus import BatchLimits, list_cursors
from sinks.wandb import WandbSink
from tests.servers.wandb import KEY, StandIn
from tests.sinks.kill_trials import Destination, Trials, Victim, run_kill_trials, steps_of


class SmallWandb(WandbSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=200, age=0.0)


def run_wandb_kill_trials(count: int, seed: int, victim: Victim) -> Trials:
    """Kill `count` processes, at least, that deliver to one stand-in; every run is resumed."""
    with StandIn() as server:
        return run_kill_trials(count, seed, victim, destination(server))


def destination(server: StandIn) -> Destination:
    """Runs that are resumed, at steps that were trained before."""

    def compare(run_dir: Path) -> list[str]:
        return compare_rows(server, run_dir)

    return Destination(
        sink="tests.sinks.wandb_kills:SmallWandb",
        name="wandb",
        compare=compare,
        settings={"base_url": server.url, "api_key": KEY},
        moment=1.0,
        resumes=True,
    )


def compare_rows(server: StandIn, run_dir: Path) -> list[str]:
    """What is wrong on the server, compared to the journal: each step is there once.

    A step that a resumed attempt trained again keeps its first value, and one beyond the last
    attempt's last stays if it had been delivered.
    """
    run_id = list_cursors(run_dir)["wandb"].state["run_id"]
    (run,) = (each for each in server.runs.values() if each.name == run_id)
    points = run.series("n")
    arrived = Counter(step for step, _ in points)
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(points)} rows lost, such as that of step {min(lost)}")
    if twice := [step for step, times in arrived.items() if times > 1]:
        wrong.append(f"{len(twice)} rows twice, such as that of step {min(twice)}")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} rows that were never journalled, such as {min(strange)}")
    if changed := [step for step, value in points if value != step]:
        wrong.append(f"{len(changed)} rows have another value, such as that of {min(changed)}")
    if [row["_step"] for row in run.history] != list(range(len(run.history))):
        wrong.append("the rows are not numbered one after the other")
    return wrong
