"""Stand-ins for the trackers' servers, and the environments in which clients find them."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sinks.testing import self_signed
from tests.servers import azureml, clearml, comet, dagshub, neptune, wandb
from tests.servers._tracker import TrackerServer
from tests.vendors.clearml_server import token

Served = tuple[TrackerServer, dict[str, str]]
"""A server that serves, and the variables that name it and its keys."""
JOB = "cool_plum_1"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def _none(_folder: Path) -> Generator[Served, None, None]:
    """A server that nobody is told of."""
    with wandb.StandIn() as server:
        yield server, {}


@contextmanager
def _wandb(_folder: Path) -> Generator[Served, None, None]:
    with wandb.StandIn() as server:
        yield server, {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": wandb.KEY}


@contextmanager
def _comet(_folder: Path) -> Generator[Served, None, None]:
    with comet.StandIn() as server:
        address = {"COMET_URL_OVERRIDE": f"{server.url}/clientlib/"}
        yield server, {"COMET_API_KEY": comet.KEY, **address}


@contextmanager
def _neptune(_folder: Path) -> Generator[Served, None, None]:
    with neptune.StandIn() as server:
        # It speaks no TLS, which Neptune's client would ask for.
        given = {"NEPTUNE_PROJECT": "team/demo", "OAUTHLIB_INSECURE_TRANSPORT": "1"}
        yield server, {"NEPTUNE_API_TOKEN": server.token, **given}


@contextmanager
def _clearml(_folder: Path) -> Generator[Served, None, None]:
    with clearml.StandIn() as server:
        server.token = token()  # its client reads it
        keys = {"CLEARML_API_ACCESS_KEY": "FAKE", "CLEARML_API_SECRET_KEY": "FAKE"}
        hosts = {f"CLEARML_{host}_HOST": server.url for host in ("API", "WEB", "FILES")}
        yield server, keys | hosts


@contextmanager
def _dagshub(_folder: Path) -> Generator[Served, None, None]:
    with dagshub.StandIn() as server:
        given = {
            "DAGSHUB_CLIENT_HOST": server.url,
            "DAGSHUB_USER_TOKEN": dagshub.TOKEN,
            "DAGSHUB_QUIET": "1",
            "DAGSHUB_DISABLE_ANALYTICS": "1",
            "MLFLOW_TRACKING_URI": server.tracking_uri,
            **QUIET,
        }
        yield server, given


@contextmanager
def _azure_ml(folder: Path) -> Generator[Served, None, None]:
    """A workspace, which its client wants behind TLS, and the environment of a job there."""
    certificate = self_signed(folder)
    with azureml.StandIn(certificate=certificate) as server:
        good = azureml.token(3600)
        server.tokens = {good}
        given = {
            "MLFLOW_TRACKING_URI": server.tracking_uri.replace("https://", "azureml://"),
            "MLFLOW_TRACKING_TOKEN": good,
            "MLFLOW_RUN_ID": JOB,
            "MLFLOW_EXPERIMENT_NAME": "azexp",
            "MLFLOW_EXPERIMENT_ID": server.add_job(JOB),
            "AZUREML_RUN_ID": JOB,
            "AZUREML_CURRENT_CLOUD": "AzureCloud",
            "REQUESTS_CA_BUNDLE": str(certificate),
            "SSL_CERT_FILE": str(certificate),
            **QUIET,
        }
        yield server, given


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Served]]] = {
    "none": _none,
    "wandb": _wandb,
    "comet": _comet,
    "neptune": _neptune,
    "clearml": _clearml,
    "dagshub": _dagshub,
    "azure_ml": _azure_ml,
}
"""A server by its service's name; it may put files into the folder."""
