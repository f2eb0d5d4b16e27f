"""Kills who trains or who delivers to a stand-in for Neptune, and compares what arrived there.

Attempts go on at earlier steps, so that points come again; the server refuses a step that its
series is past, and counts how often it had to.
"""

from pathlib import Path
from typing import Final

from bus import BatchLimits, list_cursors
from sinks.neptune import NeptuneSink
from tests.servers.neptune import StandIn
from tests.sinks.kill_trials import ATTEMPTS, Destination, Trials, Victim, run_kill_trials, steps_of

SERIES: Final = "finetuning/train/n"


class SmallNeptune(NeptuneSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=50, age=0.0)


def run_neptune_kills(count: int, seed: int, victim: Victim) -> Trials:
    """Kill `count` processes, at least, on a server that lives through all of it."""
    with StandIn() as server:
        trials = run_kill_trials(count, seed, victim, destination(server))
        if len(server.runs) != -(-count // ATTEMPTS):
            trials.failures.append(f"{len(server.runs)} runs where each trial has one")
        if dated := [each for each in server.refused if "non-decreasing" in each]:
            trials.failures.append(f"{len(dated)} times that went back, such as {dated[0]}")
    return trials


def destination(server: StandIn) -> Destination:
    """Runs that are resumed, at steps that were trained before."""

    def compare(run_dir: Path) -> list[str]:
        run_id = list_cursors(run_dir)["neptune"].state["run_id"]
        return compare_points(server.runs[run_id].series(SERIES), run_dir)

    return Destination(
        sink="tests.sinks.neptune_kills:SmallNeptune",
        name="neptune",
        compare=compare,
        settings={"api_token": server.token, "project": "team/demo"},
        moment=0.6,  # making the run takes a part of it
        resumes=True,
    )


def compare_points(points: list[tuple[float, float]], run_dir: Path) -> list[str]:
    """What is wrong with a series, compared to the journal: each step is there once, in order."""
    arrived = [int(step) for step, _ in points]
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(points)} points lost, such as that of step {min(lost)}")
    if arrived != sorted(set(arrived)):
        wrong.append("points are there twice, or not in order")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} points that were never journalled, such as {min(strange)}")
    if changed := [step for step, value in points if value != step]:
        wrong.append(f"{len(changed)} points have another value, such as that of {min(changed)}")
    return wrong
