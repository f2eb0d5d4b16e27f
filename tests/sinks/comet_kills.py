"""Where `kill_trials.py` delivers to when it is the stand-in for Comet."""

from collections import Counter
from pathlib import Path
from typing import Final

from bus import BatchLimits, list_cursors
from sinks._comet_rates import Kind, Rates
from sinks._comet_server import CometServer
from sinks.comet import CometSink
from tests.servers.comet import KEY, StandIn
from tests.sinks.kill_trials import ATTEMPTS, Destination, Trials, Victim, run_kill_trials, steps_of

BATCH: Final = 100


class Unlimited(Rates):
    """The trainers of a trial log ten times what Comet takes in a minute."""

    async def room(self, kind: Kind, count: int = 1) -> None:
        """Never wait."""


class SmallComet(CometSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = BatchLimits(events=BATCH, age=0.0)

    def _reached(self) -> CometServer:
        server = super()._reached()
        server.rates = Unlimited()
        return server


def run_comet_kills(count: int, seed: int, victim: Victim) -> Trials:
    """Kill `count` processes that deliver to one stand-in, and resume each run."""
    with StandIn() as server:
        return run_kill_trials(
            count,
            seed,
            victim,
            Destination(
                sink="tests.sinks.comet_kills:SmallComet",
                name="comet",
                compare=lambda run_dir: compare_points(server, run_dir),
                settings={"url_override": server.url, "api_key": KEY},
                moment=0.5,
                resumes=True,
            ),
        )


def compare_points(server: StandIn, run_dir: Path) -> list[str]:
    """What is wrong on the server, compared to the journal.

    Each step is there with its value. Those of the batch that was under way when somebody was
    killed may be there twice: sent again, or trained again, since nobody knew that they had come.
    """
    key = list_cursors(run_dir)["comet"].state["experiment_key"]
    points = [point for point in server.experiments[key].points if point[0] == "n"]
    arrived = Counter(point[1] for point in points)
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(points)} points lost, such as that of step {min(lost)}")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} points that were never journalled, such as {min(strange)}")
    twice = sum(times - 1 for times in arrived.values())
    if twice > ATTEMPTS * BATCH:
        wrong.append(f"{twice} points are there once more, and {ATTEMPTS} batches were under way")
    if changed := [step for _, step, _, value, *_ in points if value != step]:
        wrong.append(f"{len(changed)} points have another value, such as that of {min(changed)}")
    return wrong
