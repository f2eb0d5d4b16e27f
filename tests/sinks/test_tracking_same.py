"""Our sinks leave DagsHub and Azure ML as the recorded clients do, but for what is listed here.

The stand-ins refuse a request with another set of fields than the recorded ones, so that what they
took from both has the same.
"""

import json

import pytest

from bus import ArtifactReady, CheckpointSaved, MetricsLogged, sync_run
from sinks.azureml import AzureMLSink
from sinks.dagshub import DagsHubSink
from tests.servers import azureml, dagshub
from tests.servers._recordings import load
from tests.servers.journals import QUICK, write_attempt

RUN = "0" * 31 + "1"


pytestmark = pytest.mark.usefixtures("environment")


def deliver(run_dir, sink):
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    assert account.complete
    assert account.dead == 0


class TestDagsHub:
    """`dagshub.init`, then `add_dir` of a trainer's output folder to `artifacts`."""

    def recorded(self, server):
        for each in load("dagshub", "sdk_0.7.3_init_and_add_dir"):
            parts = each["body"]["_multipart"] if each["body"] else []
            form = "".join(f"--BOUNDARY{part}" for part in [*parts, "--\r\n"]).encode()
            content = form if parts else b""
            reply = server.answer(each["method"], each["path"], each["headers"], content)
            assert reply.status == 200

    def ours(self, server, folder):
        output = folder / "outdir"
        checkpoint = output / "checkpoint-10"
        checkpoint.mkdir(parents=True)
        (output / "trainer_state.json").write_text("x\n")
        (checkpoint / "model.safetensors").write_bytes(bytes(64))
        (checkpoint / "config.json").write_text("{}\n")
        state = str(output / "trainer_state.json")
        events = [
            CheckpointSaved(step=10, path=str(checkpoint)),
            ArtifactReady(path=state, kind="checkpoint", name="trainer_state.json"),
        ]
        sink = DagsHubSink(
            tracking_uri=server.tracking_uri, user_token=dagshub.TOKEN, log_artifacts="end"
        )
        deliver(write_attempt(folder / "run", events), sink)

    def test_the_repository_is_the_same(self, tmp_path):
        """Every file at its place; commits are as many.

        Intended differences: a commit's summary names the run instead of the local folder, and
        `last_commit` is the branch's head, so that files of an earlier run are replaced.
        """
        with dagshub.StandIn() as theirs, dagshub.StandIn() as ours:
            self.recorded(theirs)
            self.ours(ours, tmp_path)

        expected, found = theirs.branches["main"], ours.branches["main"]
        assert found.files == expected.files
        assert len(found.commits) == len(expected.commits) == 2
        assert found.commits == [
            "checkpoint-10 of the run run",
            "trainer_state.json of the run run",
        ]
        assert set(expected.commits) == {"Commit data points in folder outdir"}
        assert ours.run.info["status"] == "FINISHED"


class TestAzureML:
    """A job of azureml-mlflow: a token that is renewed, a parameter, metrics, a file."""

    def recorded(self, server):
        server.experiments["8"] = {"name": "azexp", "lifecycle_stage": "active"}
        server.renewed = [(azureml.TOKEN, 3600)]
        run_id = RUN
        for each in load("azureml", "sdk_azureml_mlflow_1.62_job_with_token_refresh"):
            request = json.loads(json.dumps(each).replace(RUN, run_id))
            content = json.dumps(request["body"]).encode() if request["body"] else b""
            reply = server.answer(request["method"], request["path"], request["headers"], content)
            assert reply.status == each["status"]
            if request["path"].endswith("runs/create"):
                run_id = json.loads(reply.body)["run"]["info"]["run_id"]

    def ours(self, server, folder, monkeypatch):
        experiment = server.add_job("job")
        short = azureml.token(60)
        server.tokens = {short}
        server.renewed = [(azureml.token(3600, "b"), 3600)]
        monkeypatch.setenv("MLFLOW_RUN_ID", "job")
        monkeypatch.setenv("AZUREML_RUN_ID", "job")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        sink = AzureMLSink(tracking_uri=server.tracking_uri, tracking_token=short)
        events = [MetricsLogged(step=n, metrics={"loss": 1.1 - n / 10}) for n in (1, 2)]
        deliver(write_attempt(folder / "run", events, config={"lr": "0.1"}), sink)

    def test_the_run_is_the_same(self, tmp_path, monkeypatch):
        """Parameter, first point and status; the token was renewed in both.

        Intended differences: the second point arrives, since ours goes the ordinary way and not to
        `log-batch-async`, which the recorded server did not know; and the tags are ours.
        """
        with azureml.StandIn() as theirs, azureml.StandIn() as ours:
            self.recorded(theirs)
            self.ours(ours, tmp_path, monkeypatch)

        assert ours.run.params == theirs.run.params == {"lr": "0.1"}
        assert theirs.run.series("loss") == [(1, 1.0)]
        assert ours.run.series("loss") == [(1, 1.0), (2, pytest.approx(0.9))]
        assert ours.run.info["status"] == theirs.run.info["status"] == "RUNNING"
        assert ours.renewed == theirs.renewed == []
        asked = [{call for _, call, _ in server.requests} for server in (ours, theirs)]
        assert "runs/update" not in asked[0] | asked[1]

    def test_a_file_is_the_same(self, tmp_path):
        """At the same path in the storage, put in the same requests with the same headers."""
        place, blob = load("azureml", "sdk_azureml_mlflow_1.62_artifact_upload")
        (tmp_path / "a.txt").write_text("12345")
        event = ArtifactReady(path=str(tmp_path / "a.txt"), kind="ckpt", name="a.txt")
        with azureml.StandIn() as server:
            server.add_job("fake-run")
            sink = AzureMLSink(
                tracking_uri=server.tracking_uri,
                tracking_token=azureml.TOKEN,
                run_id="fake-run",
                job_run_id="fake-run",
                log_artifacts="all",
            )
            deliver(write_attempt(tmp_path / "run", [event]), sink)

        # Intended difference: our folders are called after the kind, in the plural.
        assert server.storage.blobs == {"ckpts/a.txt": b"12345"}
        ((_, path, content),) = [each for each in server.requests if each[1] == place["path"]]
        assert path == place["path"]
        assert json.loads(content) == {"paths": [{"path": "ckpts/a.txt"}]}
        (headers,) = server.storage.headers
        recorded = blob["headers"].keys() - {"user-agent"}
        assert recorded <= headers.keys()
        assert {name: headers[name] for name in recorded} == {
            name: blob["headers"][name] for name in recorded
        }
