"""`hotloop doctor --sinks` against real sockets: what answers, what does not, and no secret."""

import json
import os
import time
import tomllib
from pathlib import Path

import pytest

from bus import SINKS, SinkSettings
from sinks.testing import Received, Reply, ScriptedServer, redirect, self_signed
from tests.bus.delivery.conftest import ScriptedSink

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))
OURS = PROJECT["project"]["entry-points"]["hotloop.sinks"]
PLANTED = "secret-0123456789"


@pytest.fixture(autouse=True)
def _ours(monkeypatch, tmp_path):
    """Ours by name, whatever is installed, and an environment that configures none of them."""
    prefixes = ("AZUREML_", "CLEARML_", "COMET_", "DAGSHUB_", "DISCORD_", "HOTLOOP_", "MLFLOW_")
    for prefix in (*prefixes, "NEPTUNE_", "SLACK_", "WANDB_"):
        for name in [each for each in os.environ if each.startswith(prefix)]:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    registered = dict(SINKS._registered)
    for name, target in OURS.items():
        SINKS.register(name, target)
    yield
    SINKS._registered.clear()
    SINKS._registered.update(registered)


@pytest.fixture
def ask(invoke):
    """The findings of some destinations by name, and the exit code."""

    def run(*names):
        chosen = [word for name in names for word in ("--sink", name)]
        done = invoke("doctor", "--no-torch", "--json", *(chosen or ["--sinks"]))
        assert PLANTED not in done.output
        found = {each["check"]: each for each in json.loads(done.stdout)}
        return {name: found[name] for name in names or OURS}, done.exit_code

    return run


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


class TestReady:
    def test_a_host_that_answers_is_posted_nothing(self, ask, server, monkeypatch):
        """HEAD of the host's first page and no more; whatever it says to that is an answer."""
        server.always = lambda exchange: exchange.answer(Reply(404))
        for name in ("HOTLOOP_WEBHOOK_URL", "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL"):
            monkeypatch.setenv(name, f"{server.url}/services/{PLANTED}?wait=1")
        found, code = ask("webhook", "slack", "discord")

        assert code == 0
        assert {each["level"] for each in found.values()} == {"ok"}
        assert all(each["found"] == f"{server.url} answers (HTTP 404)" for each in found.values())
        assert [(each.method, each.target) for each in server.requests] == [("HEAD", "/")] * 3

    def test_a_redirect_is_an_answer_and_not_followed(self, ask, server, monkeypatch):
        """Slack's own front page leads elsewhere."""
        with ScriptedServer() as elsewhere:
            server.next(redirect(elsewhere.url, 302))
            monkeypatch.setenv("SLACK_WEBHOOK_URL", f"{server.url}/{PLANTED}")
            found, code = ask("slack")
            assert elsewhere.requests == []

        assert code == 0
        assert "HTTP 302" in found["slack"]["found"]

    def test_folders_that_can_be_written(self, ask, tmp_path, monkeypatch):
        """The default one and one that was set; nothing is left in either."""
        monkeypatch.setenv("HOTLOOP_JSONL_PATH", str(tmp_path / "logs" / "all.jsonl"))
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
        found, code = ask("csv", "jsonl", "tensorboard")

        assert code == 0
        assert found["csv"]["found"] == f"{tmp_path}/runs/RUN can be made in {tmp_path}"
        assert found["jsonl"]["found"] == f"{tmp_path}/logs can be made in {tmp_path}"
        assert found["tensorboard"]["found"] == f"{tmp_path} can be written"
        assert list(tmp_path.iterdir()) == []

    def test_a_sink_without_a_check_is_fine(self, ask):
        """It says that there is nothing to check, and is released."""
        SINKS.register("plain", ScriptedSink)
        found, code = ask("plain")

        assert code == 0
        assert found["plain"]["found"] == "nothing to check"


class Mlflow:
    """A tracking server's answers to what a check may ask."""

    def __init__(self):
        self.experiments = {"Default": "active", "old": "deleted"}
        self.status = 200

    def __call__(self, request: Received) -> Reply:
        assert request.method == "GET", "a check makes nothing"
        if request.target == "/version":
            return Reply(200, b"3.5.1")
        if self.status != 200:
            return Reply(self.status, {"heard": request.headers["authorization"]})
        name = request.target.partition("experiment_name=")[2]
        if name not in self.experiments:
            return Reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
        stage = self.experiments[name]
        return Reply(200, {"experiment": {"experiment_id": "1", "lifecycle_stage": stage}})


@pytest.fixture
def mlflow(monkeypatch):
    service = Mlflow()
    with ScriptedServer(service) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", PLANTED)
        yield service
        assert server.breaches == []


class TestMlflow:
    @pytest.mark.parametrize(
        ("experiment", "words"),
        [
            ("", "the experiment 'Default' is there"),
            ("old", "the experiment 'old' is deleted and will be restored"),
            ("new", "the experiment 'new' will be made"),
        ],
    )
    def test_says_its_version_and_what_it_shows_us(
        self, ask, mlflow, monkeypatch, experiment, words
    ):
        """Without making the experiment."""
        del mlflow
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
        found, code = ask("mlflow")

        assert code == 0
        assert found["mlflow"]["found"] == f"MLflow 3.5.1 answers; {words}"

    @pytest.mark.parametrize(
        ("status", "advice"),
        [(401, "check the credentials"), (403, "check what these credentials may do")],
    )
    def test_credentials_that_do_not_hold(self, ask, mlflow, status, advice):
        """The server's words without the secret that it repeats, and what to do."""
        mlflow.status = status
        found, code = ask("mlflow")

        assert code == 1
        assert found["mlflow"]["level"] == "problem"
        assert f"HTTP {status}" in found["mlflow"]["found"]
        assert "***" in found["mlflow"]["found"]
        assert found["mlflow"]["advice"] == advice


class TestTrouble:
    def test_nobody_listens(self, ask, server, monkeypatch):
        """A problem, with the word that training goes on."""
        monkeypatch.setenv("HOTLOOP_WEBHOOK_URL", f"{server.url}/{PLANTED}")
        server.down()
        found, code = ask("webhook")

        assert code == 1
        assert found["webhook"]["level"] == "problem"
        assert "connection" in found["webhook"]["found"].lower()
        assert "events wait in the journal" in found["webhook"]["advice"]

    def test_a_certificate_that_nobody_vouches_for(self, ask, monkeypatch, tmp_path):
        """TLS has to hold before anything is an answer."""
        with ScriptedServer(certificate=self_signed(tmp_path)) as server:
            monkeypatch.setenv("SLACK_WEBHOOK_URL", f"{server.url}/{PLANTED}")
            found, code = ask("slack")
            assert server.requests == []

        assert code == 1
        assert "certificate" in found["slack"]["found"].lower()

    def test_a_place_that_is_no_folder(self, ask, tmp_path, monkeypatch):
        """As the disk says it."""
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOTLOOP_CSV_PATH", str(tmp_path / "file" / "x.csv"))
        found, code = ask("csv")

        assert code == 1
        assert "cannot be written" in found["csv"]["found"]
        assert found["csv"]["advice"] == "make it writable or choose another place"

    @pytest.mark.slow
    def test_all_at_once_and_ten_seconds_at_most(self, ask, server, monkeypatch):
        """Three that never answer cost the time of one, and do not hold up the others."""

        def silent(exchange):
            exchange.ended.wait(60)
            exchange.drop()

        server.always = silent
        for name in ("HOTLOOP_WEBHOOK_URL", "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL"):
            monkeypatch.setenv(name, f"{server.url}/{PLANTED}")
        began = time.monotonic()
        found, code = ask("webhook", "slack", "discord", "csv")
        took = time.monotonic() - began

        assert code == 1
        assert 9.9 < took < 25
        assert len(server.requests) == 3
        assert found["csv"]["level"] == "ok"
        for name in ("webhook", "slack", "discord"):
            assert found[name]["found"] == "no answer within 10 s"

    def test_a_destination_with_a_bug(self, ask, caplog):
        """It is one finding among others, without its secrets; how it ends is logged."""

        class Broken(ScriptedSink):
            """Raises, whatever it is asked."""

            async def check(self):
                raise KeyError(f"https://user:{PLANTED}@host/")

            async def release(self):
                raise KeyError("again")

        SINKS.register("broken", Broken)
        found, code = ask("broken", "csv")

        assert code == 1
        assert found["broken"]["found"].startswith("it raised KeyError")
        assert "bug" in found["broken"]["advice"]
        assert "sink 'broken' could not be released" in caplog.text
        assert found["csv"]["level"] == "ok"


class TestNotReady:
    def test_what_nobody_uses_is_listed_and_no_problem(self, ask):
        """With what to set and where to get it."""
        found, code = ask()

        assert code == 0
        assert found["slack"]["level"] == "ok"
        assert found["slack"]["found"] == "not configured"
        assert "SLACK_WEBHOOK_URL" in found["slack"]["advice"]
        assert "https://api.slack.com" in found["slack"]["advice"]

    def test_what_somebody_began_to_set_is_a_warning(self, ask, monkeypatch):
        """A wrong address is meant to be one."""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{PLANTED}.db")
        found, code = ask()

        assert code == 0
        assert found["mlflow"]["level"] == "warn"
        assert "http:// or https://" in found["mlflow"]["advice"]

    def test_what_was_named_has_to_be_ready(self, ask):
        """Then it is a problem that it is not."""
        SINKS.register("gone", "no_such_package.sinks:Gone")
        found, code = ask("slack", "gone")

        assert code == 1
        assert (found["slack"]["level"], found["slack"]["found"]) == ("problem", "not configured")
        assert (found["gone"]["level"], found["gone"]["found"]) == ("problem", "missing")
        assert "pip install" in found["gone"]["advice"]

    def test_a_class_that_cannot_be_made(self, ask):
        """Somebody else's constructor spoils nothing but its own line."""

        class Impossible(ScriptedSink):
            """Not to be made."""

            class Settings(SinkSettings, env_prefix="IMPOSSIBLE_"):
                """None."""

            def __init__(self):
                raise RuntimeError("no")

        SINKS.register("impossible", Impossible)
        found, code = ask("impossible")

        assert code == 1
        assert found["impossible"]["found"] == "it raised RuntimeError: no"

    def test_an_unknown_name_is_2(self, invoke):
        """A typing error is not mistaken for a clean bill of health."""
        done = invoke("doctor", "--no-torch", "--sink", "slak")
        assert done.exit_code == 2
        assert "there is no sink 'slak'" in done.output

    def test_a_table_for_people(self, invoke):
        """The same findings, each with its advice below."""
        done = invoke("doctor", "--no-torch", "--sinks")
        assert done.exit_code == 0
        assert "not configured" in done.output
        assert "SLACK_WEBHOOK_URL" in done.output
