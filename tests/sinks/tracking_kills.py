"""Where `kill_trials.py` delivers to when it is a stand-in for DagsHub or Azure ML."""

from pathlib import Path
from typing import Final, Literal

from bus import BatchLimits, list_cursors
from sinks.azureml import AzureMLSink
from sinks.dagshub import DagsHubSink
from tests.servers import azureml, dagshub
from tests.sinks.kill_trials import Destination, Trials, Victim, compare_points, run_kill_trials

LIMITS: Final = BatchLimits(events=200, age=0.0)
Service = Literal["dagshub", "azure_ml"]


class SmallDagsHub(DagsHubSink):
    """Always a request under way, so that a kill is likely to come in the middle of one."""

    limits = LIMITS


class SmallAzureML(AzureMLSink):
    """Likewise."""

    limits = LIMITS


def run_kills(service: Service, count: int, seed: int, victim: Victim) -> Trials:
    """Kill `count` processes at least, that train or that deliver to a stand-in for a service."""
    with dagshub.StandIn() if service == "dagshub" else azureml.StandIn() as server:
        kind = "SmallDagsHub" if service == "dagshub" else "SmallAzureML"
        settings = {"tracking_uri": server.tracking_uri}
        key = "user_token" if service == "dagshub" else "tracking_token"
        settings[key] = dagshub.TOKEN if service == "dagshub" else azureml.TOKEN

        def compare(run_dir: Path) -> list[str]:
            run_id = list_cursors(run_dir)[service].state["run_id"]
            return compare_points(run_dir, server.runs[run_id].series("n"))

        destination = Destination(
            sink=f"tests.sinks.tracking_kills:{kind}",
            name=service,
            compare=compare,
            settings=settings,
            resumes=True,
        )
        return run_kill_trials(count, seed, victim, destination)
