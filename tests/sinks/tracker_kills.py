"""Where `kill_trials.py` delivers to when it is a tracker: a strict stand-in that lives through it.

Attempts go on at earlier steps, so that points come again. `run_tracker_kills` is for tests and
the soak benchmark.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from bus import BatchLimits, State, list_cursors
from sinks._comet_rates import Kind, Rates
from sinks._comet_server import CometServer
from sinks.azureml import AzureMLSink
from sinks.clearml import ClearmlSink
from sinks.comet import CometSink
from sinks.dagshub import DagsHubSink
from sinks.neptune import NeptuneSink
from sinks.wandb import WandbSink
from tests.servers import azureml, clearml, comet, dagshub, neptune, wandb
from tests.sinks.kill_trials import (
    ATTEMPTS,
    Destination,
    Trials,
    Victim,
    compare_points,
    run_kill_trials,
)

LIMITS: Final = BatchLimits(events=100, age=0.0)
"""Always a request under way, so that a kill is likely to come in the middle of one."""


class SmallAzureML(AzureMLSink):
    """In small batches."""

    limits = LIMITS


class SmallClearml(ClearmlSink):
    """In small batches."""

    limits = LIMITS


class SmallDagsHub(DagsHubSink):
    """In small batches."""

    limits = LIMITS


class SmallNeptune(NeptuneSink):
    """In small batches."""

    limits = LIMITS


class SmallWandb(WandbSink):
    """In small batches."""

    limits = LIMITS


class Unlimited(Rates):
    """The trainers of a trial log ten times what Comet takes in a minute."""

    async def room(self, kind: Kind, count: int = 1) -> None:
        """Never wait."""


class SmallComet(CometSink):
    """In small batches, as many a minute as there are."""

    limits = LIMITS

    def _reached(self) -> CometServer:
        server = super()._reached()
        server.rates = Unlimited()
        return server


def compare_azureml(server: azureml.StandIn, run_dir: Path, state: State) -> list[str]:
    """The stand-in recognises a repeated batch."""
    return compare_points(run_dir, server.runs[state["run_id"]].series("n"))


def compare_clearml(server: clearml.StandIn, run_dir: Path, state: State) -> list[str]:
    """One task has every point, and has ended."""
    task = server.tasks[state["task_id"]]
    wrong = compare_points(run_dir, task.series("train", "n"))
    comments = [each.fields["comment"] for each in server.tasks.values()]
    if twice := len(comments) - len(set(comments)):
        wrong.append(f"{twice} tasks too many")
    if task.status not in ("completed", "failed"):
        wrong.append(f"the task was left {task.status}")
    return wrong


def compare_comet(server: comet.StandIn, run_dir: Path, state: State) -> list[str]:
    """Points of the batches that were under way may be there twice, sent or trained again."""
    found = server.experiments[state["experiment_key"]].points
    points = [(step, value) for name, step, _, value, *_ in found if name == "n"]
    wrong = compare_points(run_dir, dict(points).items())
    twice = len(points) - len({step for step, _ in points})
    if twice > ATTEMPTS * LIMITS.events:
        wrong.append(f"{twice} points are there once more, and {ATTEMPTS} batches were under way")
    return wrong


def compare_dagshub(server: dagshub.StandIn, run_dir: Path, state: State) -> list[str]:
    """The stand-in recognises a repeated batch."""
    return compare_points(run_dir, server.runs[state["run_id"]].series("n"))


def compare_neptune(server: neptune.StandIn, run_dir: Path, state: State) -> list[str]:
    """Steps only grow, and nothing was sent that the server had to refuse for that."""
    points = server.runs[state["run_id"]].series("finetuning/train/n")
    wrong = compare_points(run_dir, points)
    if [step for step, _ in points] != sorted(step for step, _ in points):
        wrong.append("not in order")
    if dated := [each for each in server.refused if "non-decreasing" in each]:
        wrong.append(f"{len(dated)} times that went back, such as {dated[0]}")
    return wrong


def compare_wandb(server: wandb.StandIn, run_dir: Path, state: State) -> list[str]:
    """Rows are numbered one after the other."""
    (run,) = (each for each in server.runs.values() if each.name == state["run_id"])
    wrong = compare_points(run_dir, run.series("n"))
    if [row["_step"] for row in run.history] != list(range(len(run.history))):
        wrong.append("the rows are not numbered one after the other")
    return wrong


Compare = Callable[[Any, Path, State], Iterable[str]]
Settings = Callable[[Any], dict[str, str]]
TRACKERS: Final[dict[str, tuple[type[Any], type[Any], Compare, Settings]]] = {
    "azure_ml": (
        azureml.StandIn,
        SmallAzureML,
        compare_azureml,
        lambda server: {"tracking_uri": server.tracking_uri, "tracking_token": azureml.TOKEN},
    ),
    "clearml": (
        clearml.StandIn,
        SmallClearml,
        compare_clearml,
        lambda server: {
            "api_host": server.url,
            "files_host": server.url,
            "api_access_key": "FAKE",
            "api_secret_key": "FAKE",
        },
    ),
    "comet": (
        comet.StandIn,
        SmallComet,
        compare_comet,
        lambda server: {"url_override": server.url, "api_key": comet.KEY},
    ),
    "dagshub": (
        dagshub.StandIn,
        SmallDagsHub,
        compare_dagshub,
        lambda server: {"tracking_uri": server.tracking_uri, "user_token": dagshub.TOKEN},
    ),
    "neptune": (
        neptune.StandIn,
        SmallNeptune,
        compare_neptune,
        lambda server: {"api_token": server.token, "project": "team/demo"},
    ),
    "wandb": (
        wandb.StandIn,
        SmallWandb,
        compare_wandb,
        lambda server: {"base_url": server.url, "api_key": wandb.KEY},
    ),
}


def run_tracker_kills(name: str, count: int, seed: int, victim: Victim) -> Trials:
    """Kill `count` processes, at least, that train or that deliver to a tracker's stand-in."""
    stand_in, kind, compare, settings = TRACKERS[name]
    with stand_in() as server:

        def wrong(run_dir: Path) -> list[str]:
            return list(compare(server, run_dir, list_cursors(run_dir)[name].state))

        destination = Destination(
            sink=f"{__name__}:{kind.__name__}",
            name=name,
            compare=wrong,
            settings=settings(server),
            moment=0.6,  # making the remote run takes a part of it
            resumes=True,
        )
        return run_kill_trials(count, seed, victim, destination)
