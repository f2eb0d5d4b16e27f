"""What azureml-mlflow leaves on the stand-in, our sink leaves too; azure-identity finds a token."""

import json
import math
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bus import ArtifactReady, MetricsLogged, sync_run
from sinks.azureml import AzureMLSink
from sinks.testing import Reply, ScriptedServer, self_signed
from tests.servers.azureml import StandIn, token
from tests.servers.journals import QUICK, write_attempt
from tests.vendors.mlflow_server import READER
from tests.vendors.programs import needs, packages_of, run_program

PYTHON = os.environ.get("HOTLOOP_AZUREML_PYTHON")
JOB = "cool_plum_1"
RESOURCE = "https://management.azure.com"

pytestmark = needs(PYTHON, "AZUREML", "azureml-mlflow and azure-identity", timeout=200)


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in [each for each in os.environ if each.startswith(("MLFLOW_", "AZURE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def job(server, certificate):
    """The environment that Azure ML makes for a job."""
    good = token(3600)
    server.tokens = {good}
    return {
        "MLFLOW_TRACKING_URI": server.tracking_uri.replace("https://", "azureml://"),
        "MLFLOW_TRACKING_TOKEN": good,
        "MLFLOW_RUN_ID": JOB,
        "MLFLOW_EXPERIMENT_NAME": "azexp",
        "MLFLOW_EXPERIMENT_ID": server.add_job(JOB),
        "AZUREML_RUN_ID": JOB,
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        "REQUESTS_CA_BUNDLE": str(certificate),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }


def deliver(folder, file, certificate):
    """The run of `azureml_client.py` through our sink, with all of it from the environment."""
    points = [*((step, 1 / step) for step in range(1, 6)), (6, math.nan)]
    run_dir = write_attempt(
        folder / "ours",
        [
            *(MetricsLogged(step=step, metrics={"loss": value}) for step, value in points),
            ArtifactReady(path=str(file), kind="ckpt", name="a.txt"),
        ],
        config={"lr": 0.1},
    )
    sink = AzureMLSink(verify=certificate, tags={"team": "nlp"}, log_artifacts="all")
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=60)
    assert account.complete
    assert account.dead == 0


def test_the_client_and_our_sink_leave_the_same(tmp_path, monkeypatch):
    """Series with a NaN, parameter, tag, file and status, in a job; both over TLS.

    Intended differences: tags of each client's own, and the name of the file's folder.
    """
    certificate = self_signed(tmp_path)
    file = tmp_path / "a.txt"
    file.write_text("12345")
    with StandIn(certificate=certificate) as theirs, StandIn(certificate=certificate) as ours:
        program = Path(__file__).with_name("azureml_client.py")
        variables = job(theirs, certificate)
        run_program(PYTHON, str(program), str(file), folder=tmp_path, environment=variables)
        for name, value in job(ours, certificate).items():
            monkeypatch.setenv(name, value)
        deliver(tmp_path, file, certificate)

    assert ours.run.series("loss") == theirs.run.series("loss")
    assert len(ours.run.series("loss")) == 6
    assert ours.run.params == theirs.run.params == {"lr": "0.1"}
    assert ours.run.info["status"] == theirs.run.info["status"] == "RUNNING"
    assert ours.run.tags["team"] == theirs.run.tags["team"] == "nlp"
    assert list(ours.storage.blobs.values()) == list(theirs.storage.blobs.values()) == [b"12345"]


def test_the_client_reads_our_run(tmp_path, monkeypatch):
    """Through the workspace's address, in the same job."""
    certificate = self_signed(tmp_path)
    file = tmp_path / "a.txt"
    file.write_text("12345")
    with StandIn(certificate=certificate) as server:
        variables = job(server, certificate)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        deliver(tmp_path, file, certificate)
        command = (PYTHON, str(READER), variables["MLFLOW_TRACKING_URI"], "run", JOB)
        printed = run_program(*command, folder=tmp_path, environment=variables)
        read = json.loads(printed.splitlines()[-1])

    assert read["experiment"] == "azexp"
    assert read["status"] == "RUNNING"
    assert read["params"] == {"lr": "0.1"}
    assert [step for step, _, _ in read["metrics"]["loss"]] == [*range(1, 7)]
    assert read["metrics"]["loss"][5][1] == "nan"
    assert read["tags"]["hotloop.outcome"] == "finished"
    assert [path for path, _ in read["files"]] == ["ckpts/a.txt"]


def test_azure_identity_finds_a_token(tmp_path):
    """That of a managed identity, which a machine's own service gives; once for many requests."""
    run_dir = write_attempt(
        tmp_path / "run", [MetricsLogged(step=n, metrics={"n": float(n)}) for n in range(3)]
    )
    given = token(3600)
    with StandIn() as server, identity(given) as service:
        server.tokens = {given}
        program = Path(__file__).with_name("azureml_identity.py")
        arguments = [packages_of(PYTHON, tmp_path), str(run_dir), server.tracking_uri]
        told = {"IDENTITY_ENDPOINT": f"{service.url}/token", "IDENTITY_HEADER": "secret"}
        run_program(sys.executable, str(program), *arguments, folder=tmp_path, environment=told)

    assert len(server.run.series("n")) == 3
    assert server.run.info["status"] == "FINISHED"
    (asked,) = service.requests
    assert parse_qs(urlsplit(asked.target).query)["resource"] == [RESOURCE]


def identity(text):
    """The service that gives App Service's managed identity a token."""
    told = {"access_token": text, "token_type": "Bearer", "resource": RESOURCE}
    return ScriptedServer(
        lambda _request: Reply(200, {**told, "expires_on": str(int(time.time()) + 3600)})
    )
