"""What the Azure ML sink sends, inside a job and elsewhere; against a strict stand-in."""

import sys
import time
from functools import partial

import anyio
import pytest

from bus import (
    ArtifactReady,
    CheckpointSaved,
    MetricsLogged,
    NotConfiguredError,
    TextLogged,
    list_cursors,
    sync_run,
)
from bus._handover import PlainSink
from sinks import _azureml_files
from sinks.azureml import AzureMLSink
from sinks.mlflow import MlflowSink
from tests.nobody import settings
from tests.servers.azureml import SCOPE, TOKEN, StandIn, token
from tests.servers.journals import QUICK, write_attempt

pytestmark = pytest.mark.usefixtures("environment")

URI = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{SCOPE}"
JOB = "cool_plum_1"


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def job(server, environment):
    """The environment that Azure ML makes for a job."""
    experiment = server.add_job(JOB)
    environment.setenv("MLFLOW_TRACKING_URI", server.tracking_uri)
    environment.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    environment.setenv("MLFLOW_RUN_ID", JOB)
    environment.setenv("MLFLOW_EXPERIMENT_NAME", "azexp")
    environment.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    environment.setenv("AZUREML_RUN_ID", JOB)
    return experiment


def deliver(run_dir, sink):
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    return account


def at(server, **settings):
    return AzureMLSink(**{"tracking_uri": server.tracking_uri, "tracking_token": TOKEN, **settings})


def points(count):
    return [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(count)]


def updates(server):
    """Statuses that the server was told."""
    return [body["status"] for body in server.calls("runs/update")]


class TestElsewhere:
    """Outside a job the run is made, and ended."""

    def test_it_arrives_and_is_ended(self, server, tmp_path):
        """With the steps that upstream's callback does not send, and an address to look at."""
        account = deliver(
            write_attempt(tmp_path / "run", points(3), config={"lr": 0.1}), at(server)
        )

        assert account.complete
        assert server.run.series("loss") == [(n, float(n)) for n in range(3)]
        assert server.run.params == {"lr": "0.1"}
        assert server.run.info["status"] == "FINISHED"
        (run_id,) = server.runs
        assert account.url == (
            f"https://ml.azure.com/runs/{run_id}?wsid=/subscriptions/"
            "00000000-0000-0000-0000-000000000000/resourcegroups/fake-rg/workspaces/fake-ws"
        )

    def test_limits(self, server, tmp_path, caplog):
        """200 metrics a request, 200 parameters a run, 1000 characters a tag; nothing is refused.

        Which parameters are left out is said.
        """
        metrics = {f"m{n}": 1.0 for n in range(500)}
        run_dir = write_attempt(
            tmp_path / "run",
            [MetricsLogged(step=1, metrics=metrics)],
            config={f"p{n:03}": n for n in range(203)},
        )
        account = deliver(run_dir, at(server, tags={"long": "x" * 2000}))

        assert account.complete
        assert account.dead == 0
        assert len(server.run.points) == 500
        assert len(server.run.params) == 200
        assert len(server.run.tags["long"]) == 1000
        (words,) = [each for each in caplog.messages if "left out" in each]
        assert words.endswith("3 parameters are left out: p200, p201, p202")

    def test_a_resumed_run_is_the_same_and_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out."""
        run_dir = write_attempt(tmp_path / "run", points(4), outcome=None)
        deliver(run_dir, at(server))
        again = [MetricsLogged(step=n, metrics={"loss": -1.0}) for n in range(2, 6)]
        write_attempt(run_dir, again, attempt=2, from_step=1)
        deliver(run_dir, at(server))

        assert server.run.series("loss") == [
            *((n, float(n)) for n in range(4)),
            *((n, -1.0) for n in (4, 5)),
        ]
        assert updates(server) == ["RUNNING", "FAILED", "RUNNING", "FINISHED"]


@pytest.mark.usefixtures("job")
class TestJob:
    """Inside a job the run is the platform's."""

    def test_it_is_written_to_and_its_status_left_alone(self, server, tmp_path):
        """Everything is in the environment; how our run ended is a tag."""
        run_dir = write_attempt(tmp_path / "run", points(3), outcome="failed")
        account = deliver(run_dir, AzureMLSink())

        assert account.complete
        assert list(server.runs) == [JOB]
        assert server.run.series("loss") == [(n, float(n)) for n in range(3)]
        assert server.run.tags["hotloop.outcome"] == "failed"
        assert updates(server) == []

    def test_nor_does_a_later_sync_elsewhere(self, server, tmp_path, environment):
        """The cursor knows whose the run is."""
        run_dir = write_attempt(tmp_path / "run", points(3), outcome=None)
        deliver(run_dir, AzureMLSink())
        for name in settings():
            environment.delenv(name)
        more = [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(3, 6)]
        write_attempt(run_dir, more, attempt=2, from_step=2)
        account = deliver(run_dir, at(server))

        assert account.complete
        assert list(server.runs) == [JOB]
        assert server.run.series("loss") == [(n, float(n)) for n in range(6)]
        assert updates(server) == []

    def test_another_job_writes_to_its_own_run(self, server, tmp_path, environment):
        """A run that goes on in another job is shown there; the first job's is left as it is."""
        run_dir = write_attempt(tmp_path / "run", points(3), outcome=None)
        deliver(run_dir, AzureMLSink())
        server.add_job("another", "azexp")
        environment.setenv("MLFLOW_RUN_ID", "another")
        environment.setenv("AZUREML_RUN_ID", "another")
        write_attempt(run_dir, points(6), attempt=2, from_step=1)
        deliver(run_dir, AzureMLSink())

        assert [step for step, _ in server.runs[JOB].series("loss")] == [0, 1, 2]
        assert [step for step, _ in server.runs["another"].series("loss")] == list(range(6))
        assert updates(server) == []
        assert list_cursors(run_dir)["azure_ml"].state["run_id"] == "another"

    def test_a_nested_run_is_ours(self, server, tmp_path, environment):
        """MLFLOW_NESTED_RUN: a child of the job's run, made and ended here."""
        environment.setenv("MLFLOW_NESTED_RUN", "1")
        run_dir = write_attempt(tmp_path / "run", points(1))
        deliver(run_dir, AzureMLSink())

        (child,) = [run for run_id, run in server.runs.items() if run_id != JOB]
        assert child.tags["mlflow.parentRunId"] == JOB
        assert child.info["status"] == "FINISHED"

    @pytest.mark.parametrize("named", ["experimentids", "experiments"])
    def test_the_token_is_renewed(self, server, job, tmp_path, environment, named):
        """When it is good for less than 95 s, at the run; by the experiment's id or name."""
        if named == "experiments":
            environment.delenv("MLFLOW_EXPERIMENT_ID")
        first, second = token(94), token(3600, "b")
        environment.setenv("MLFLOW_TRACKING_TOKEN", first)
        server.tokens = {first}
        server.renewed = [(second, 3600)]
        run_dir = write_attempt(tmp_path / "run", points(3))
        account = deliver(run_dir, AzureMLSink())

        assert account.complete
        files = [path.read_text() for path in run_dir.rglob("*") if path.is_file()]
        assert not any(secret in text for text in files for secret in (first, second))
        shown = [each["authorization"] for each in server.headers]
        assert shown[0] == f"Bearer {first}"
        assert set(shown[1:]) == {f"Bearer {second}"}
        experiment = job if named == "experimentids" else "azexp"
        assert server.requests[0][1].endswith(f"{SCOPE}/{named}/{experiment}/runs/{JOB}/token")

    def test_a_token_that_lasts_is_left_alone(self, server, tmp_path, environment):
        """Nobody is asked for another."""
        good = token(96)
        environment.setenv("MLFLOW_TRACKING_TOKEN", good)
        server.tokens = {good}
        account = deliver(write_attempt(tmp_path / "run", points(3)), AzureMLSink())

        assert account.complete
        assert [path for _, path, _ in server.requests if path.endswith("/token")] == []

    def test_a_token_that_is_not_renewed_is_said(self, tmp_path, environment):
        """It is over and the workspace gives no other; nothing is lost."""
        environment.setenv("MLFLOW_TRACKING_TOKEN", token(-10))
        account = deliver(write_attempt(tmp_path / "run", points(3)), AzureMLSink())

        assert account.status == "suspended"
        assert "check the credentials" in account.reason
        assert account.pending == 5


class TestFiles:
    """They go straight to the workspace's storage."""

    @pytest.fixture
    def events(self, tmp_path):
        folder = tmp_path / "checkpoint-1"
        (folder / "sub").mkdir(parents=True)
        (folder / "weights").write_bytes(b"w" * 1000)
        (folder / "sub" / "h\u00e9 llo").write_bytes(b"")
        (tmp_path / "data.csv").write_text("1,2")
        return [
            CheckpointSaved(step=1, path=str(folder)),
            ArtifactReady(path=str(tmp_path / "data.csv"), kind="dataset", name="data.csv"),
            TextLogged(step=1, key="sample", text="To be"),
        ]

    def test_each_has_a_place(self, server, tmp_path, events):
        """The workspace names it; the storage is shown no token."""
        account = deliver(write_attempt(tmp_path / "run", events), at(server, log_artifacts="all"))

        assert account.complete
        text = next(path for path in server.storage.blobs if path.startswith("texts/"))
        assert server.storage.blobs == {
            "checkpoints/checkpoint-1/weights": b"w" * 1000,
            "checkpoints/checkpoint-1/sub/h\u00e9 llo": b"",
            "datasets/data.csv": b"1,2",
            text: b"To be",
        }
        assert not any("authorization" in each for each in server.storage.headers)

    def test_an_answer_that_was_lost(self, server, tmp_path, events):
        """The place is known already, so it is not asked for again."""
        server.storage.faults["blob"].extend([503, "lose"])
        account = deliver(write_attempt(tmp_path / "run", events), at(server, log_artifacts="all"))

        assert account.complete
        assert len(server.storage.blobs) == 4
        places = [path for _, path, _ in server.requests if path.endswith("/batch/metadata")]
        assert len(places) == 4

    def test_a_storage_that_lets_nobody_in(self, server, tmp_path, events, caplog):
        """One warning for each file; metrics arrive."""
        server.storage.faults["blob"].extend([403] * 4)
        account = deliver(
            write_attempt(tmp_path / "run", [*events, *points(2)]), at(server, log_artifacts="all")
        )

        assert account.complete
        assert len(server.run.series("loss")) == 2
        warnings = [each for each in caplog.messages if "was not stored in Azure ML" in each]
        assert len(warnings) == 4
        assert "sig=fake" not in "".join(warnings)

    def test_a_path_that_is_taken(self, server, tmp_path, events, caplog):
        """A warning with the workspace's words."""
        server.files["datasets/data.csv"] = b"theirs"
        deliver(write_attempt(tmp_path / "run", events), at(server, log_artifacts="all"))

        (warning,) = [each for each in caplog.messages if "was not stored" in each]
        assert "Resource Conflict" in warning
        assert len(server.storage.blobs) == 3

    def test_a_big_file_goes_in_blocks(self, server, tmp_path):
        """One after another, and then the list of them."""
        size = _azureml_files.BLOCK + 10
        path = tmp_path / "big"
        with path.open("wb") as file:
            file.truncate(size - 3)
            file.seek(size - 3)
            file.write(b"end")
        event = ArtifactReady(path=str(path), kind="model", name="big")
        account = deliver(write_attempt(tmp_path / "run", [event]), at(server, log_artifacts="all"))

        assert account.complete
        (stored,) = server.storage.blobs.values()
        assert len(stored) == size
        assert stored.endswith(b"\0end")
        assert [query.get("comp") for _, _, query in server.storage.requests] == [
            *("block", "block", "blocklist"),
        ]


class TestSettings:
    """Arguments beat the environment."""

    def test_what_is_missing_is_said(self, environment):
        """With the variables, and where the address is found."""
        with pytest.raises(NotConfiguredError) as caught:
            AzureMLSink()
        assert "MLFLOW_TRACKING_URI" in str(caught.value)
        assert "az ml workspace show" in str(caught.value)
        environment.setenv("MLFLOW_TRACKING_URI", "https://westeurope.api.azureml.ms")
        with pytest.raises(NotConfiguredError, match="workspace's tracking address"):
            AzureMLSink(tracking_token=TOKEN)

    def test_a_way_to_a_token(self, environment):
        """One is given, or azure-identity is there to find one."""
        environment.setitem(sys.modules, "azure.identity", None)  # as if it were not installed
        with pytest.raises(NotConfiguredError, match=r"pip install 'hotloop\[azureml\]'"):
            AzureMLSink(tracking_uri=URI)

    def test_addresses(self, environment):
        """`azureml://` is https; the version of the interface is that for MLflow 2 and 3."""
        sink = AzureMLSink(tracking_uri=URI, tracking_token=TOKEN)
        host = "https://westeurope.api.azureml.ms"
        assert sink.settings.workspace.tracking == f"{host}/mlflow/v2.0{SCOPE}"
        assert sink.settings.workspace.history == f"{host}/history/v1.0{SCOPE}"
        assert sink.origins() == (f"{host}/mlflow/v2.0{SCOPE}",)
        assert sink.headers() == {"authorization": f"Bearer {TOKEN}"}
        assert TOKEN not in repr(sink.settings)
        environment.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
        environment.setenv("AZUREML_CURRENT_CLOUD", "AzureUSGovernment")
        assert AzureMLSink(tracking_uri=URI, tracking_token=TOKEN).settings.cloud.endswith("nt")

    def test_the_sink_for_mlflow_knows_better(self, environment):
        """A job's variables make `mlflow` say which sink is meant."""
        environment.setenv("MLFLOW_TRACKING_URI", URI)
        with pytest.raises(NotConfiguredError, match="use the sink azure_ml"):
            MlflowSink()

    @pytest.mark.usefixtures("job")
    def test_another_process_gets_the_same(self):
        """Settings are plain data, secrets included."""
        sink = AzureMLSink()
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings
        assert again.headers() == sink.headers()


PACKAGE = """
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

class Token:
    token, expires_on = {token!r}, {expires!r}

class DefaultAzureCredential:
    def __init__(self, authority):
        self.authority = authority

    def get_token(self, scope):
        words = f"{{self.authority}} {{scope}}"
        if {how!r} == "nobody":
            raise ClientAuthenticationError(words)
        if {how!r} == "unreachable":
            raise ServiceRequestError(words)
        return Token
"""
ERRORS = """
class AzureError(Exception): pass
class ServiceRequestError(AzureError): pass
class ClientAuthenticationError(AzureError): pass
"""


class TestIdentity:
    """Outside a job azure-identity finds a token; here a package that stands in for it."""

    @pytest.fixture
    def identity(self, environment, tmp_path):
        """Installs it; says what it gives."""

        def install(how="found", expires=None):
            packages = tmp_path / "packages" / "azure"
            (packages / "core").mkdir(parents=True)
            (packages / "core" / "__init__.py").touch()
            (packages / "core" / "exceptions.py").write_text(ERRORS)
            (packages / "identity").mkdir()
            text = PACKAGE.format(token=TOKEN, expires=expires or time.time() + 3600, how=how)
            (packages / "identity" / "__init__.py").write_text(text)
            environment.syspath_prepend(str(tmp_path / "packages"))

        before = set(sys.modules)
        yield install
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "azure":
                del sys.modules[name]

    def test_a_token_is_found(self, server, tmp_path, identity):
        """And used for every request."""
        identity()
        account = deliver(
            write_attempt(tmp_path / "run", points(3)), at(server, tracking_token=None)
        )

        assert account.complete
        assert len(server.run.series("loss")) == 3
        assert {each["authorization"] for each in server.headers} == {f"Bearer {TOKEN}"}

    def test_nobody_has_signed_in(self, server, tmp_path, identity):
        """What to do is said, and nothing is lost; it asks where this cloud gives tokens."""
        identity("nobody")
        account = deliver(
            write_attempt(tmp_path / "run", points(3)),
            at(server, tracking_token=None, cloud="AzureChinaCloud"),
        )

        assert account.status == "suspended"
        assert "login.chinacloudapi.cn https://management.chinacloudapi.cn/.default" in (
            account.reason
        )
        assert "az login" in account.reason
        assert server.requests == []

    def test_it_cannot_be_reached(self, server, tmp_path, identity):
        """Then later."""
        identity("unreachable")
        run_dir = write_attempt(tmp_path / "run", points(3))
        sink = at(server, tracking_token=None)
        (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=0.5)

        assert not account.complete
        assert account.status == "backing off"


def test_a_check_makes_nothing(server):
    """Who answers, and what would be made."""

    async def check(**settings):
        sink = at(server, **settings)
        try:
            return await sink.check()
        finally:
            await sink.release()

    words = anyio.run(partial(check, experiment_name="new"))
    assert words == "the workspace fake-ws answers; the experiment 'new' will be made"
    assert server.runs == {}
