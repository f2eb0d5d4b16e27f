"""What the MLflow sink sends, and what it makes of an unkind server; against a strict stand-in."""

import base64
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bus import (
    AlertRaised,
    ArtifactReady,
    BatchLimits,
    CheckpointSaved,
    Evaluated,
    MetricsLogged,
    NotConfiguredError,
    ParametersLogged,
    Response,
    TextLogged,
    list_cursors,
    resend_dead,
    sync_run,
    unheld,
)
from bus._handover import PlainSink
from sinks.mlflow import MlflowSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.mlflow import Refused, StandIn

pytestmark = pytest.mark.usefixtures("environment")

TOKEN = "a long secret"  # noqa: S105 - of no server


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def old_server():
    with StandIn(old=True) as server:
        yield server


def _is_held(folder):
    with unheld(folder) as free:
        return not free


class SmallBatches(MlflowSink):
    """Ten records at a time."""

    limits = BatchLimits(events=10, age=0.0)


def deliver(run_dir, server, kind=MlflowSink, **settings):
    (account,) = sync_run(
        run_dir, [kind(tracking_uri=server.url, **settings)], pace=QUICK, timeout=15
    )
    return account


def points(count, key="loss", first=0):
    return [MetricsLogged(step=n, metrics={key: float(n)}) for n in range(first, first + count)]


class TestTwice:
    """Nothing that is sent again is there twice."""

    def test_an_answer_lost_after_applying(self, server, tmp_path):
        """The same requests come again, and the server recognises their points."""
        run_dir = write_attempt(tmp_path / "run", points(40), config={"lr": 1})
        server.faults["runs/log-batch"].extend(["lose", None, "lose", "lose"])
        account = deliver(run_dir, server, SmallBatches)

        assert account.complete
        assert server.run.series("loss") == [(n, float(n)) for n in range(40)]
        sent = [json.dumps(body) for body in server.calls("runs/log-batch")]
        assert len(sent) - len(set(sent)) == 3
        assert server.run.params == {"lr": "1"}

    def test_the_answer_to_making_the_run_is_lost(self, server, tmp_path):
        """It is looked for before another one is made."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        server.faults["runs/create"].append("lose")
        server.faults["experiments/create"].append("lose")
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.runs) == 1
        assert len(server.experiments) == 2
        assert server.run.series("loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]

    @pytest.mark.parametrize("values", [[1.0], [math.nan, 1.0]])
    def test_old_servers_refuse_what_they_have(self, old_server, tmp_path, values):
        """More than 100 keys, or a NaN, in a repeated request: taken apart until it is clear."""
        metrics = [
            MetricsLogged(step=n, metrics={f"m{k}": value for k in range(150)})
            for n, value in enumerate(values)
        ]
        run_dir = write_attempt(tmp_path / "run", metrics)
        old_server.faults["runs/log-batch"].append("lose")
        account = deliver(run_dir, old_server)

        assert account.complete
        assert account.dead == 0
        assert len(old_server.run.points) == 150 * len(values)

    def test_who_goes_on_sends_nothing_again(self, server, tmp_path):
        """The run's id and what has been delivered are in the cursor."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        before = len(server.calls("runs/log-batch"))
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.runs) == 1
        metrics = [each for each in server.calls("runs/log-batch")[before:] if "metrics" in each]
        assert metrics == []

    def test_a_resumed_run_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out, for each metric by itself."""
        run_dir = write_attempt(tmp_path / "run", [*points(10), *points(3, "rare")], outcome=None)
        deliver(run_dir, server)
        server.faults["runs/log-batch"].append("lose")
        write_attempt(
            run_dir,
            [*points(12, first=2), *points(12, "rare", first=2)],
            attempt=2,
            from_step=1,
        )
        deliver(run_dir, server, SmallBatches)

        assert [step for step, _ in server.run.series("loss")] == list(range(14))
        assert [step for step, _ in server.run.series("rare")] == list(range(14))
        assert server.run.tags["hotloop.attempt"] == "2"


class TestRequests:
    """What a server is asked at once."""

    def test_limits(self, server, tmp_path):
        """At most 1000 items, 1000 metrics, 100 parameters; the server would refuse more."""
        metrics = {f"m{k}": 1.0 for k in range(700)}
        run_dir = write_attempt(
            tmp_path / "run",
            [MetricsLogged(step=n, metrics=metrics) for n in range(5)],
            config={f"p{k}": k for k in range(101)},
        )
        account = deliver(run_dir, server)

        assert account.complete
        assert account.dead == 0
        assert len(server.run.points) == 3500
        assert len(server.run.params) == 101
        assert len(server.calls("runs/log-batch")) <= 7

    def test_times_are_those_of_the_events(self, server, tmp_path):
        """Not of sending: the server would take a retry for another point."""
        event = MetricsLogged(time=1_700_000_000.25, step=3, metrics={"loss": 1.0})
        run_dir = write_attempt(tmp_path / "run", [event], started=1_700_000_000.0)
        deliver(run_dir, server)

        assert list(server.run.points) == [("loss", 1_700_000_000_250, 3, 1.0)]
        assert server.run.info["start_time"] == 1_700_000_000_000
        assert server.run.info["end_time"] > 1_700_000_000_250

    def test_numbers_that_json_lacks(self, server, tmp_path):
        """NaN and infinities are the words of MLflow's own client, never null."""
        run_dir = write_attempt(
            tmp_path / "run",
            [MetricsLogged(step=1, metrics={"a": math.nan, "b": math.inf, "c": -math.inf})],
        )
        deliver(run_dir, server)

        sent = [
            each["value"]
            for body in server.calls("runs/log-batch")
            for each in body.get("metrics", [])
        ]
        assert sent == ["NaN", "Infinity", "-Infinity"]

    def test_an_evaluation_that_was_logged_too_is_one_point(self, server, tmp_path):
        """As a trainer does it: first the metrics, then the evaluation."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=4, metrics={"eval_loss": 0.5, "epoch": 1.0}),
                Evaluated(step=4, metrics={"eval_loss": 0.5, "f1": 0.25, "epoch": 1.0}),
            ],
        )
        deliver(run_dir, server)

        assert {key for key, *_ in server.run.points} == {"eval_loss", "epoch", "eval/f1"}
        assert server.run.series("eval_loss") == [(4, 0.5)]
        assert server.run.series("eval/f1") == [(4, 0.25)]

    def test_a_key_keeps_its_name_across_processes(self, server, tmp_path):
        """Two keys that would become one stay two, also when another process goes on."""
        run_dir = write_attempt(
            tmp_path / "run",
            [MetricsLogged(step=1, metrics={"a:b": 1.0, "a_b": 2.0})],
            outcome=None,
        )
        deliver(run_dir, server)
        write_attempt(
            run_dir,
            [MetricsLogged(step=2, metrics={"a_b": 2.0, "a:b": 1.0, "a@b": 3.0})],
            attempt=2,
            from_step=1,
        )
        deliver(run_dir, server)

        series = {}
        for key, _, step, value in server.run.points:
            series.setdefault(key, []).append((step, value))
        assert series.pop("a_b") == [(1, 1.0), (2, 1.0)]
        assert sorted(series.values()) == [[(1, 2.0), (2, 2.0)], [(2, 3.0)]]


class TestParameters:
    """No parameter stops anything."""

    def test_flattened_and_limited_as_asked(self, server, tmp_path, environment):
        """MLFLOW_FLATTEN_PARAMS, MLFLOW_MAX_LOG_PARAMS and MLFLOW_TAGS, as upstream's callback."""
        environment.setenv("MLFLOW_FLATTEN_PARAMS", "TRUE")
        environment.setenv("MLFLOW_MAX_LOG_PARAMS", "3")
        environment.setenv("MLFLOW_TAGS", '{"team": "nlp", "n": 1}')
        run_dir = write_attempt(
            tmp_path / "run", [], config={"a": {"b": {"c": True}, "d": {}}, "e": None, "f": 1}
        )
        deliver(run_dir, server)

        assert server.run.params == {"a.b.c": "True", "a.d": "{}", "e": "None"}
        assert {"team": "nlp", "n": "1"}.items() <= server.run.tags.items()

    def test_long_ones_are_cut_for_old_servers(self, old_server, tmp_path):
        """500 characters there; the whole batch would be refused otherwise."""
        run_dir = write_attempt(tmp_path / "run", points(1), config={"text": "x" * 501})
        account = deliver(run_dir, old_server)

        assert account.dead == 0
        assert old_server.run.params["text"] == "x" * 499 + "\u2026"

    def test_changed_by_somebody_else(self, server, tmp_path):
        """The server's value stays, ours becomes a tag; nothing is refused for good."""
        run_dir = write_attempt(tmp_path / "run", points(1), outcome=None)
        deliver(run_dir, server)
        write_attempt(
            run_dir,
            [ParametersLogged(parameters={"lr": 0.2})],
            attempt=2,
            from_step=1,
        )

        class Meanwhile(MlflowSink):
            """Another process logs the parameter when this one has looked at the run."""

            async def write(self, batch, state):
                server.run.params.setdefault("lr", "0.1")
                return await super().write(batch, state)

        account = deliver(run_dir, server, Meanwhile)

        assert account.complete
        assert account.dead == 0
        assert server.run.params["lr"] == "0.1"
        assert server.run.tags["changed_param.lr"] == "0.2"


class TestFiles:
    """What goes among the artifacts."""

    @pytest.fixture
    def events(self, tmp_path):
        found = []
        for step in (1, 2):
            folder = tmp_path / f"checkpoint-{step}"
            folder.mkdir()
            (folder / "weights").write_bytes(b"w" * step)
            (folder / "state").write_bytes(b"s")
            found.append(CheckpointSaved(step=step, path=str(folder)))
        (tmp_path / "data.csv").write_text("1,2")
        return [
            *found,
            ArtifactReady(path=str(tmp_path / "data.csv"), kind="dataset", name="data.csv"),
            ArtifactReady(path=str(tmp_path / "gone"), kind="dataset", name="gone"),
        ]

    @pytest.mark.parametrize(
        ("when", "stored"),
        [
            ("never", set()),
            (
                "end",
                {
                    "checkpoints/checkpoint-2/state",
                    "checkpoints/checkpoint-2/weights",
                    "datasets/data.csv",
                },
            ),
            (
                "checkpoints",
                {
                    f"checkpoints/checkpoint-{n}/{name}"
                    for n in (1, 2)
                    for name in ("state", "weights")
                },
            ),
            (
                "all",
                {
                    "datasets/data.csv",
                    *(
                        f"checkpoints/checkpoint-{n}/{name}"
                        for n in (1, 2)
                        for name in ("state", "weights")
                    ),
                },
            ),
        ],
    )
    def test_when_they_are_uploaded(self, tmp_path, events, when, stored):
        """As `log_artifacts` says; a run that crashed uploads its last ones too."""
        for outcome in ("finished", None):
            run_dir = write_attempt(tmp_path / f"run-{outcome}", events, outcome=outcome)
            with StandIn() as server:
                account = deliver(run_dir, server, log_artifacts=when)

            assert account.complete
            assert {path.partition("/artifacts/")[2] for path in server.files} == stored

    def test_a_retry_goes_on_behind_the_files_that_are_there(self, server, tmp_path, events):
        """Each file is sent once, but for the one whose answer was missing."""
        server.faults["artifacts"].extend([None, 500, None])
        run_dir = write_attempt(tmp_path / "run", events)
        deliver(run_dir, server, log_artifacts="checkpoints")

        assert len(server.files) == 4
        assert len(server.calls("artifacts")) == 5

    def test_what_a_trainer_announces_twice_is_sent_once(self, server, tmp_path, events):
        """As a checkpoint that was saved and as an artifact of that kind; also over two batches."""
        saved = next(each for each in events if isinstance(each, CheckpointSaved))
        again = ArtifactReady(step=saved.step, path=saved.path, kind="checkpoint", name="again")
        other = ArtifactReady(step=saved.step, path=saved.path, kind="model", name="best")

        class OneByOne(MlflowSink):
            limits = BatchLimits(events=1, age=0.0)

        for kind in (MlflowSink, OneByOne):
            run_dir = write_attempt(tmp_path / kind.__name__, [saved, again, other])
            sink = kind(tracking_uri=server.url, log_artifacts="checkpoints")
            sync_run(run_dir, [sink], pace=QUICK, timeout=60)
        stored = [path.partition("/artifacts/")[2].rpartition("/")[0] for path in server.files]
        assert sorted(set(stored)) == [f"checkpoints/{Path(saved.path).name}", "models/best"]
        assert len(server.calls("artifacts")) == len(server.files)

    def test_what_is_being_uploaded_is_not_rotated_away(self, server, tmp_path, events):
        """A folder is held from its first file to its last, through a failed try."""
        first, second = (Path(each.path) for each in events if isinstance(each, CheckpointSaved))
        server.faults["artifacts"].extend([None, 500, None])
        held = []

        def note(call):
            if call == "artifacts":
                held.append([path for path in (first, second) if _is_held(path)])

        server.before = note
        deliver(write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints")

        assert held == [[first]] * 3 + [[second]] * 2
        assert not _is_held(first)
        assert not _is_held(second)

    def test_nothing_leaves_the_runs_folder(self, server, tmp_path, events):
        """A name with `..` becomes a dead letter with the reason."""
        sly = events[2].model_copy(update={"name": "../../x"})
        run_dir = write_attempt(tmp_path / "run", [*points(2), sly, *points(2, first=2)])
        account = deliver(run_dir, server, log_artifacts="all")

        assert account.complete
        assert account.dead == 1
        assert server.files == {}
        assert len(server.run.series("loss")) == 4

    def test_texts_and_alerts(self, server, tmp_path):
        """Each has a file of its own, the same at each try."""
        server.faults["artifacts"].append("lose")
        run_dir = write_attempt(
            tmp_path / "run",
            [
                TextLogged(step=1, key="sample/a", text="one"),
                TextLogged(step=1, key="sample/a", text="two"),
                AlertRaised(title="late", text="rank 3"),
            ],
        )
        deliver(run_dir, server)

        texts = sorted(content.decode() for content in server.files.values())
        assert texts == ["late\n\nrank 3\n", "one", "two"]
        assert server.run.tags["alert"] == "warning: late"

    def test_a_server_that_stores_none(self, tmp_path, events, caplog):
        """`--no-serve-artifacts` is one warning; everything else arrives."""
        with StandIn(serves_artifacts=False) as server:
            run_dir = write_attempt(tmp_path / "run", [*events, *points(2)])
            account = deliver(run_dir, server, log_artifacts="all")

        assert account.complete
        assert account.dead == 0
        assert server.run.series("loss") == [(0, 0.0), (1, 1.0)]
        warnings = [each for each in caplog.messages if "are not uploaded to MLflow" in each]
        assert len(warnings) == 1


class TestRefusals:
    """What an answer means."""

    def test_the_guilty_record_is_the_one_the_server_names(self, server, tmp_path):
        """One request finds it; the others of its batch arrive."""
        server.faults["runs/log-batch"].append(
            Refused(400, "INVALID_PARAMETER_VALUE", "Invalid value for parameter 'metrics[1].name'")
        )
        run_dir = write_attempt(tmp_path / "run", points(5))
        account = deliver(run_dir, server)

        assert account.dead == 1
        assert [step for step, _ in server.run.series("loss")] == [0, 2, 3, 4]
        batches = [body for body in server.calls("runs/log-batch") if "metrics" in body]
        assert [len(body["metrics"]) for body in batches] == [5, 4]

    def test_a_run_stays_ended_when_a_dead_letter_is_sent_again(self, server, tmp_path):
        """It is opened for that, and closed again as it was."""
        server.faults["runs/log-batch"].append(
            Refused(400, "INVALID_PARAMETER_VALUE", "Invalid value for parameter 'metrics[1].name'")
        )
        run_dir = write_attempt(tmp_path / "run", points(5), outcome="failed")
        deliver(run_dir, server)
        assert resend_dead(run_dir, MlflowSink(tracking_uri=server.url)) == (1, 0)

        assert len(server.run.series("loss")) == 5
        assert server.run.info["status"] == "FAILED"

    @pytest.mark.parametrize(
        ("status", "text", "kind"),
        [
            (200, "{}", None),
            (
                500,
                '{"error_code": "INTERNAL_ERROR", "message": "locked"}',
                "Unavailable",
            ),
            (500, "<!doctype html>", "Unavailable"),
            (500, '{"error_code": "INVALID_STATE", "message": "x"}', "Rejected"),
            (
                500,
                '{"error_code": "INTERNAL_ERROR", "message": "Changing param values"}',
                "ParameterChanged",
            ),
            (
                503,
                "Artifact serving is disabled. Start without `--no-serve-artifacts`",
                "ArtifactsDisabled",
            ),
            (503, "busy", "Unavailable"),
            (429, "", "Unavailable"),
            (
                400,
                '{"error_code": "BAD_REQUEST", "message": "UNIQUE constraint failed: metrics.key',
                "AlreadyStored",
            ),
            (400, '{"error_code": "TEMPORARILY_UNAVAILABLE"}', "Unavailable"),
            (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "x"}', "Rejected"),
            (400, "The run 1 must be in the 'active' state.", "Misconfigured"),
            (403, "Invalid Host header - possible DNS rebinding attack", "Misconfigured"),
            (401, "You are not authenticated", "Misconfigured"),
        ],
    )
    def test_what_an_answer_means(self, status, text, kind):
        """Words of the server come before its status."""
        sink = MlflowSink(tracking_uri="http://localhost")
        error = sink.classify(Response(status, {}, text), now=0.0)

        assert (error and type(error).__name__) == (kind and f"{kind}Error")

    def test_a_deleted_run_is_not_written_to(self, server, tmp_path):
        """Somebody deleted it on purpose, so it is not restored; what to do is said."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        server.run.info["lifecycle_stage"] = "deleted"
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        account = deliver(run_dir, server)

        assert account.status == "suspended"
        assert "is deleted; restore it" in account.reason
        assert account.pending == 4


class TestSettings:
    """Arguments beat the environment, that beats MLflow's credentials file."""

    def test_what_is_missing_is_said(self, environment):
        """With the variable that sets it."""
        with pytest.raises(NotConfiguredError, match="MLFLOW_TRACKING_URI"):
            MlflowSink()
        environment.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        environment.setenv("MLFLOW_TAGS", "{no json")
        with pytest.raises(NotConfiguredError) as caught:
            MlflowSink()
        assert "mlflow server" in str(caught.value)
        assert "JSON object" in str(caught.value)
        environment.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
        with pytest.raises(NotConfiguredError, match="DISABLE_MLFLOW_INTEGRATION"):
            MlflowSink(tracking_uri="http://localhost")

    def test_credentials(self, environment, tmp_path):
        """From the file, from variables, from the address, from arguments."""
        folder = tmp_path / ".mlflow"
        folder.mkdir()
        (folder / "credentials").write_text(
            "[mlflow]\nmlflow_tracking_username = file\nmlflow_tracking_password = 50%\n"
        )
        uri = "http://localhost:5000/"
        assert MlflowSink(tracking_uri=uri).headers() == basic("file:50%")
        address = MlflowSink(tracking_uri="http://me:p%40ss@localhost/")
        assert address.headers() == basic("me:p@ss")
        assert "p@ss" not in repr(address.settings)
        environment.setenv("MLFLOW_TRACKING_USERNAME", "env")
        environment.setenv("MLFLOW_TRACKING_PASSWORD", "word")
        assert MlflowSink(tracking_uri=uri).headers() == basic("env:word")
        token = MlflowSink(tracking_uri=uri, tracking_token=TOKEN)
        assert token.headers() == {"authorization": f"Bearer {TOKEN}"}

    def test_another_process_gets_the_same(self, environment):
        """Settings are plain data, secrets included."""
        environment.setenv("HF_MLFLOW_LOG_ARTIFACTS", "1")
        environment.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        sink = MlflowSink(tracking_uri="https://localhost", tracking_token=TOKEN, tags={"a": "b"})
        environment.delenv("HF_MLFLOW_LOG_ARTIFACTS")
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings
        assert sink.settings.log_artifacts == "checkpoints"
        assert sink.settings.verify is False

    def test_authentication_is_sent(self, server, tmp_path):
        """With each request."""
        deliver(write_attempt(tmp_path / "run", points(1)), server, tracking_token=TOKEN)

        assert {each.get("authorization") for each in server.headers} == {f"Bearer {TOKEN}"}


class TestActiveRun:
    """What the program has begun with the `mlflow` package itself."""

    @pytest.fixture
    def active(self, server, environment, tmp_path):
        """A run that is active, on the server that the package was told."""
        deliver(write_attempt(tmp_path / "theirs", [], outcome=None), server)
        (run_id,) = server.runs
        server.run.info["status"] = "RUNNING"
        run = SimpleNamespace(info=SimpleNamespace(run_id=run_id))
        tracking = SimpleNamespace(
            is_tracking_uri_set=lambda: True, get_tracking_uri=lambda: server.url
        )
        package = SimpleNamespace(active_run=lambda: run, tracking=tracking)
        environment.setitem(sys.modules, "mlflow", package)
        environment.setitem(sys.modules, "mlflow.tracking", tracking)
        return server.run

    def test_it_is_written_to_and_not_ended(self, active, tmp_path):
        """Whoever began it will end it."""
        run_dir = write_attempt(tmp_path / "ours", points(2))
        (account,) = sync_run(run_dir, [MlflowSink()], pace=QUICK, timeout=15)

        assert account.complete
        assert active.series("loss") == [(0, 0.0), (1, 1.0)]
        assert active.info["status"] == "RUNNING"

    def test_a_nested_run_is_its_child(self, active, server, tmp_path, environment):
        """MLFLOW_NESTED_RUN; also for a process that delivers elsewhere."""
        environment.setenv("MLFLOW_NESTED_RUN", "1")
        run_dir = write_attempt(tmp_path / "ours", points(2))
        sync_run(run_dir, [MlflowSink()], pace=QUICK, timeout=15)

        child = server.runs[list_cursors(run_dir)["mlflow"].state["run_id"]]
        assert child is not active
        assert child.tags["mlflow.parentRunId"] == active.info["run_id"]
        assert child.info["status"] == "FINISHED"


def basic(pair):
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def test_the_page_of_the_run(server, tmp_path):
    """Known as soon as the run is."""
    run_dir = write_attempt(tmp_path / "run", [])
    account = deliver(run_dir, server)

    (run_id,) = server.runs
    assert account.url == f"{server.url}/#/experiments/1/runs/{run_id}"
    assert list_cursors(run_dir)["mlflow"].state["run_id"] == run_id
