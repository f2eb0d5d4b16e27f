"""What the ClearML sink sends, and what it makes of an unkind server; against a strict stand-in."""

import hashlib
import io
import json
import math
import sys
import zipfile
from pathlib import Path

import anyio
import pytest

import runtime
from bus import (
    AlertRaised,
    ArtifactReady,
    BatchLimits,
    CheckpointSaved,
    ConsoleLineLogged,
    Evaluated,
    HistogramLogged,
    MediaLogged,
    MessageLogged,
    MetricsLogged,
    NotConfiguredError,
    ParametersLogged,
    Response,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
    list_cursors,
    resend_dead,
    sync_run,
    unheld,
)
from bus._handover import PlainSink
from sinks.clearml import ClearmlSink
from tests.servers.clearml import StandIn
from tests.servers.clearml_reading import SUMMARY
from tests.servers.journals import QUICK, write_attempt
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("environment")

KEYS = {"api_access_key": "FAKE", "api_secret_key": "FAKE"}


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


class SmallBatches(ClearmlSink):
    """Ten records at a time."""

    limits = BatchLimits(events=10, age=0.0)


class Attentive(ClearmlSink):
    """Looks at its task all the time."""

    looks_every = 0.02


def deliver(run_dir, server, kind=ClearmlSink, **settings):
    (account,) = sync_run(
        run_dir, [kind(api_host=server.url, **KEYS, **files(server), **settings)], pace=QUICK
    )
    return account


def files(server):
    """The stand-in has both servers on one port."""
    return {"files_host": server.url, "web_host": "http://pages"}


def points(count, key="loss", first=0):
    return [MetricsLogged(step=n, metrics={key: float(n)}) for n in range(first, first + count)]


def texts(task):
    """The log, as lines."""
    return [line for _, message in task.logs for line in message.splitlines()]


class TestTwice:
    """Nothing that is sent again is there twice."""

    @pytest.mark.parametrize(
        "call",
        ["projects.create", "tasks.create", "tasks.started", "events.add_batch"],
    )
    def test_an_answer_lost_after_applying(self, server, tmp_path, call):
        """What is made is looked for before it is made again; points replace themselves."""
        run_dir = write_attempt(tmp_path / "run", points(25), config={"lr": 1})
        server.faults[call].extend(["lose", None, "lose"])
        account = deliver(run_dir, server, SmallBatches)

        assert account.complete
        assert account.dead == 0
        assert len(server.projects) == 1
        assert server.task.series("train", "loss") == [(n, float(n)) for n in range(25)]
        assert server.task.hyperparams["General"]["lr"]["value"] == "1"
        assert server.task.status == "completed"

    def test_who_goes_on_sends_nothing_again(self, server, tmp_path):
        """The task's id and what has been delivered are in the cursor."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        before = len(server.calls("events.add_batch"))
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.tasks) == 1
        assert len(server.calls("events.add_batch")) == before
        assert server.task.status == "completed"

    def test_a_run_is_found_again_when_its_cursor_was_lost(self, server, tmp_path):
        """By the mark in the task's comment."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        (run_dir / "cursors" / "clearml.json").unlink()
        deliver(run_dir, server)

        assert server.task.series("train", "loss") == [(n, float(n)) for n in range(5)]

    @pytest.mark.parametrize("outcome", [None, "failed", "stopped"])
    def test_a_resumed_run_rewrites(self, server, tmp_path, outcome):
        """Steps that are trained again have the later value, in the same task."""
        run_dir = write_attempt(tmp_path / "run", points(10), outcome=outcome)
        deliver(run_dir, server)
        assert server.task.status == (outcome or "failed")
        again = [MetricsLogged(step=n, metrics={"loss": -float(n)}) for n in range(5, 12)]
        write_attempt(run_dir, again, attempt=2, from_step=4)
        deliver(run_dir, server, SmallBatches)

        expected = {n: float(n if n < 5 else -n) for n in range(12)}
        assert dict(server.task.series("train", "loss")) == expected
        assert server.task.status == "completed"

    def test_points_without_a_step_are_counted(self, server, tmp_path):
        """Also across batches and attempts, or one would replace another."""
        run_dir = write_attempt(
            tmp_path / "run", [MetricsLogged(metrics={"n": float(n)}) for n in range(15)]
        )
        server.faults["events.add_batch"].extend([None, "lose"])
        deliver(run_dir, server, SmallBatches)

        assert server.task.series("train", "n") == [(n, float(n)) for n in range(15)]


class TestNames:
    """Where ClearML shows what."""

    def test_charts(self, server, tmp_path):
        """As Transformers' callback names them; a path names its chart itself."""
        metrics = {"loss": 1.0, "eval_loss": 2.0, "test_f1": 3.0, "a/b/c": 4.0, "eval_": 5.0}
        run_dir = write_attempt(tmp_path / "run", [MetricsLogged(step=7, metrics=metrics)])
        deliver(run_dir, server)

        places = {("train", "loss"), ("eval", "loss"), ("test", "f1"), ("a/b", "c")}
        assert set(server.task.scalars) == places | {("train", "eval_")}
        assert server.task.series("a/b", "c") == [(7, 4.0)]

    def test_what_stands_for_the_whole_run(self, server, tmp_path):
        """Transformers' summary and the epoch, numbers of ours; other summaries are parameters."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=7, metrics={"epoch": 0.5, "train_loss": 2.0}),
                SummaryLogged(values={"best": 0.25, "verdict": "good"}),
                TrainEnded(step=7, metrics={"train_runtime": 9.0}),
            ],
        )
        deliver(run_dir, server)

        expected = {"epoch": 0.5, "train_loss": 2.0, "best": 0.25, "train_runtime": 9.0}
        assert {
            variant: values[SUMMARY]
            for (metric, variant), values in server.task.scalars.items()
            if metric == "Summary"
        } == expected
        assert server.task.hyperparams["Summary"]["verdict"]["value"] == "good"

    def test_an_evaluation_that_was_logged_too_is_one_point(self, server, tmp_path):
        """As a trainer does it; other results are under its name and its set's."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=4, metrics={"eval_loss": 0.5}),
                Evaluated(
                    step=4, metrics={"eval_loss": 0.5, "f1": 0.25, "epoch": 1.5}, dataset="dev"
                ),
            ],
        )
        deliver(run_dir, server)

        assert server.task.scalars == {
            ("eval", "loss"): {4: 0.5},
            ("eval/dev", "f1"): {4: 0.25},
            ("Summary", "epoch"): {SUMMARY: 1.5},
        }

    def test_parameters(self, server, tmp_path):
        """Nested ones with slashes, each with its type; later values replace earlier ones."""
        config = {"lr": 0.1, "model": {"layers": 2, "sizes": [1, 2]}, "resume": None, "on": True}
        run_dir = write_attempt(
            tmp_path / "run",
            [ParametersLogged(parameters={"lr": 0.2, "long": "x" * 40_000})],
            config=config,
        )
        deliver(run_dir, server)

        found = {
            name: (item["value"], item.get("type"))
            for name, item in server.task.hyperparams["General"].items()
        }
        long, kind = found.pop("long")
        assert found == {
            "lr": ("0.2", "float"),
            "model/layers": ("2", "int"),
            "model/sizes": ("[1, 2]", "list/int"),
            "resume": ("", None),
            "on": ("True", "bool"),
        }
        assert (len(long), long[-1], kind) == (32_768, "\N{HORIZONTAL ELLIPSIS}", "str")

    def test_words(self, server, tmp_path):
        """Messages, alerts, texts and console lines are lines of the log, with their levels."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MessageLogged(text="hello"),
                AlertRaised(title="late", text="rank 3", level="error"),
                TextLogged(step=3, key="sample", text="To be"),
                ConsoleLineLogged(text="printed"),
                ConsoleLineLogged(text="complained", stream="stderr"),
            ],
        )
        deliver(run_dir, server)

        assert server.task.logs == [
            ("info", "hello"),
            ("error", "late: rank 3"),
            ("info", "sample at step 3: To be\nprinted"),
            ("error", "complained"),
        ]

    def test_a_machine_and_a_distribution(self, server, tmp_path):
        """Charts of the machine as ClearML's own monitor names them, bars as a plot."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                SystemMetricsLogged(step=3, metrics={"cpu": 12.5, "gpu0/memory": 1.0}),
                HistogramLogged(step=3, key="w/1", counts=[1, 3], edges=[0, 1, 3]),
            ],
        )
        deliver(run_dir, server)

        monitors = {(":monitor:machine", "cpu"), (":monitor:gpu", "gpu0/memory")}
        assert set(server.task.scalars) == monitors
        (bars,) = server.task.plots["w", "1", 3]["data"]
        assert (bars["x"], bars["width"], bars["y"]) == ([0.5, 2.0], [1, 2], [1, 3])

    def test_numbers_that_clearml_cannot_store(self, server, tmp_path):
        """Left out, counted in a chart and said in the log; its own client would write 0.0."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=1, metrics={"loss": 1.0}),
                MetricsLogged(step=2, metrics={"loss": math.nan}),
                MetricsLogged(step=3, metrics={"loss": math.inf}),
            ],
        )
        account = deliver(run_dir, server)

        assert account.dead == 0
        assert server.task.series("train", "loss") == [(1, 1.0)]
        assert server.task.series("not finite", "train/loss") == [(2, 1), (3, 2)]
        assert texts(server.task) == [
            "train/loss: 2 values are not finite, and so not stored (last: inf)"
        ]


class TestRequests:
    """What a server is asked at once, and by whom."""

    def test_a_big_batch_is_split(self, server, tmp_path):
        """At most 2,000 events a request."""
        metrics = {f"m{k}": 1.0 for k in range(700)}
        events = [MetricsLogged(step=n, metrics=metrics) for n in range(5)]
        deliver(write_attempt(tmp_path / "run", events), server)

        sizes = [len(body) for body in server.calls("events.add_batch")]
        assert max(sizes) == 2000
        assert sum(sizes) == 3500 == sum(map(len, server.task.scalars.values()))

    def test_a_long_text_is_taken(self, server, tmp_path):
        """A request is cut at 4 MB, between events."""
        events = [TextLogged(step=n, key="k", text="x" * 3_000_000) for n in range(3)]
        account = deliver(write_attempt(tmp_path / "run", events), server)

        assert account.complete
        assert len(server.task.logs) == 3
        assert len(server.calls("events.add_batch")) >= 2

    def test_times_are_those_of_the_events(self, server, tmp_path):
        """In milliseconds."""
        event = MetricsLogged(time=1_700_000_000.25, step=3, metrics={"loss": 1.0})
        deliver(write_attempt(tmp_path / "run", [event]), server)

        ((sent,),) = server.calls("events.add_batch")
        assert sent["timestamp"] == 1_700_000_000_250

    def test_a_token_that_ran_out_is_renewed(self, server, tmp_path):
        """For a call and for an upload, once each, without a word to anybody."""
        folder = tmp_path / "checkpoint-1"
        folder.mkdir()
        (folder / "weights").write_bytes(b"w")
        seen = []

        def before(call):
            if call in ("upload", "events.add_batch") and call not in seen:
                seen.append(call)
                server.token += "x"

        server.before = before
        events = [*points(2), CheckpointSaved(step=2, path=str(folder))]
        account = deliver(write_attempt(tmp_path / "run", events), server)

        assert account.complete
        assert account.dead == 0
        assert len(server.files) == 1
        assert len(server.task.models) == 1

    def test_a_token_instead_of_keys(self, server, tmp_path):
        """It is changed for a newer one, as ClearML's client does."""
        run_dir = write_attempt(tmp_path / "run", points(1))
        sink = ClearmlSink(api_host=server.url, auth_token=server.token, **files(server))
        (account,) = sync_run(run_dir, [sink], pace=QUICK)

        assert account.complete
        assert server.task.series("train", "loss") == [(0, 0.0)]

    def test_wrong_keys(self, server, tmp_path):
        """Said, and nothing is lost."""
        sink = ClearmlSink(api_host=server.url, api_access_key="a", api_secret_key="b")  # noqa: S106
        (account,) = sync_run(write_attempt(tmp_path / "run", points(1)), [sink], pace=QUICK)

        assert account.status == "suspended"
        assert "401" in account.reason
        assert account.pending == 3


class TestFiles:
    """What becomes a model, an artifact or a picture."""

    @pytest.fixture
    def events(self, tmp_path):
        found = []
        for step in (1, 2):
            folder = tmp_path / f"checkpoint-{step}"
            (folder / "sub").mkdir(parents=True)
            (folder / "weights").write_bytes(b"w" * step)
            (folder / "sub" / "state").write_bytes(b"s")
            path = str(folder)
            found.append(CheckpointSaved(step=step, path=path))
            found.append(ArtifactReady(path=path, kind="checkpoint", name=folder.name, step=step))
        (tmp_path / "data.csv").write_text("1,2")
        return [
            *found,
            ArtifactReady(path=str(tmp_path / "data.csv"), kind="dataset", name="data"),
            ArtifactReady(path=str(tmp_path / "gone"), kind="dataset", name="gone"),
        ]

    @pytest.mark.parametrize(
        ("when", "models", "artifacts"),
        [
            ("never", set(), set()),
            ("end", {"checkpoint-2"}, {"data"}),
            (None, {"checkpoint-1", "checkpoint-2"}, set()),
            ("all", {"checkpoint-1", "checkpoint-2"}, {"data"}),
        ],
    )
    @pytest.mark.parametrize("outcome", ["finished", None])
    def test_when_they_are_uploaded(
        self, *, server, tmp_path, events, when, models, artifacts, outcome
    ):
        """As `log_model` says, each once; a run that crashed uploads its last ones too."""
        run_dir = write_attempt(tmp_path / "run", events, outcome=outcome)
        account = deliver(run_dir, server, log_model=when)

        assert account.complete
        assert set(server.task.models) == models
        assert set(server.task.artifacts) == artifacts
        assert len(server.calls("upload")) == len(models | artifacts)
        assert server.task.status == ("completed" if outcome else "failed")

    def test_a_checkpoint_is_a_package(self, server, tmp_path, events):
        """One archive with the folder's files, whose address the model has."""
        deliver(write_attempt(tmp_path / "run", events), server)

        shown = server.task.models["checkpoint-2"]
        assert (shown["type"], shown["iteration"]) == ("output", 2)
        model = server.models[shown["model"]]
        assert model["system_tags"] == ["package"]
        task_id = next(iter(server.tasks))
        place = f"/tests/run.{task_id}/models/checkpoint-2.zip"
        assert model["uri"] == f"{server.url}{place}"
        with zipfile.ZipFile(io.BytesIO(server.files[place])) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == {
                "weights": b"ww",
                "sub/state": b"s",
            }
        assert not (tmp_path / "run" / ".clearml-upload.zip").exists()

    def test_an_artifact_is_described(self, server, tmp_path, events):
        """With its size and hash."""
        deliver(write_attempt(tmp_path / "run", events), server, log_model="all")

        artifact = server.task.artifacts["data"]
        assert artifact["content_size"] == 3
        assert artifact["uri"].endswith("/artifacts/data/data.csv")
        assert artifact["hash"] == hashlib.sha256(b"1,2").hexdigest()

    def test_pictures(self, server, tmp_path):
        """Uploaded whatever `log_model` says, and shown at their step."""
        path = tmp_path / "a.png"
        path.write_bytes(b"png")
        event = MediaLogged(
            step=4, key="images/cat", path=str(path), media_type="image/png", caption="a cat"
        )
        deliver(write_attempt(tmp_path / "run", [event]), server, log_model="never")

        url = server.task.images["images", "cat", 4]
        assert url.removeprefix(server.url) in server.files
        assert texts(server.task) == ["images/cat: a cat"]

    @pytest.mark.parametrize("call", ["upload", "models.create", "tasks.add_or_update_model"])
    @pytest.mark.parametrize("fault", ["lose", 500])
    def test_a_retry_makes_nothing_twice(self, *, server, tmp_path, events, call, fault):
        """The file is sent again, the model is found."""
        server.faults[call].append(fault)
        account = deliver(write_attempt(tmp_path / "run", [*points(3), *events]), server)

        assert account.complete
        assert len(server.models) == 2
        assert len(server.files) == 2
        assert len(server.task.series("train", "loss")) == 3

    @pytest.mark.parametrize("fault", [None, "lose", 500])
    def test_the_oldest_go(self, *, server, tmp_path, events, fault):
        """`keep_models` of them stay, with their files, as Transformers' callback rotates them."""
        folder = tmp_path / "checkpoint-3"
        folder.mkdir()
        best = ArtifactReady(path=str(folder), kind="model", name="final")
        later = CheckpointSaved(step=3, path=str(folder))
        if fault:
            server.faults["models.delete"].append(fault)
            server.faults["file"].append(fault)
        run_dir = write_attempt(tmp_path / "run", [best, *events], outcome=None)
        deliver(run_dir, server, keep_models=1)
        write_attempt(run_dir, [later], attempt=2, from_step=2)
        deliver(run_dir, server, keep_models=1)

        assert set(server.task.models) == {"final", "checkpoint-3"}
        assert {each["name"] for each in server.models.values()} == {"final", "checkpoint-3"}
        places = {place.partition("/models/")[2] for place in server.files}
        assert places == {"final/checkpoint-3.zip", "checkpoint-3.zip"}

    def test_what_is_being_uploaded_is_not_rotated_away(self, server, tmp_path, events):
        """A folder is held through a failed try, and let go of behind it."""
        first, second = (Path(each.path) for each in events if isinstance(each, CheckpointSaved))
        server.faults["upload"].append(500)
        held = []

        def note(call):
            if call == "upload":
                held.append([path for path in (first, second) if _is_held(path)])

        server.before = note
        deliver(write_attempt(tmp_path / "run", events), server)

        assert held == [[first], [first], [second]]
        assert not _is_held(second)

    def test_a_name_cannot_leave_its_place(self, server, tmp_path, events):
        """Dots and slashes in names stay names."""
        sly = events[4].model_copy(update={"name": '../../x"y'})
        account = deliver(write_attempt(tmp_path / "../run", [sly]), server, log_model="all")

        assert account.dead == 0
        (place,) = server.files
        assert place.endswith("/artifacts/__/__/x_y/data.csv")

    def test_a_file_server_that_is_none(self, server, tmp_path, events, caplog):
        """`files_server: s3://...` of clearml.conf: one warning; everything else arrives."""
        sink = ClearmlSink(api_host=server.url, **KEYS, files_host="s3://bucket")
        run_dir = write_attempt(tmp_path / "run", [*events, *points(2)])
        (account,) = sync_run(run_dir, [sink], pace=QUICK)

        assert account.complete
        assert server.task.series("train", "loss") == [(0, 0.0), (1, 1.0)]
        assert len([each for each in caplog.messages if "are not uploaded" in each]) == 1


def _is_held(folder):
    with unheld(folder) as free:
        return not free


class TestEnds:
    """What state the task is left in."""

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [("finished", "completed"), ("failed", "failed"), ("stopped", "stopped"),
         ("preempted", "stopped"), (None, "failed")],
    )  # fmt: skip
    def test_the_outcome_is_shown(self, server, tmp_path, outcome, status):
        """With the error where there was one."""
        error = "ValueError: no" if outcome == "failed" else None
        deliver(write_attempt(tmp_path / "run", [], outcome=outcome, error=error), server)

        assert server.task.status == status
        assert server.task.fields["status_message"] == (error or "")
        said = {"finished": "completed", "failed": error, None: "crashed"}
        assert server.task.fields["status_reason"] == said.get(outcome, outcome)

    def test_dead_letters_leave_it_as_it_is(self, server, tmp_path):
        """Sent to a task that is over, which is over again behind them."""
        server.refuses = lambda body: "hyperparams" in body
        run_dir = write_attempt(tmp_path / "run", [*points(1)], config={"lr": 1})
        account = deliver(run_dir, server)
        assert account.dead == 1
        assert server.task.hyperparams == {}
        server.refuses = lambda _body: False
        sink = ClearmlSink(api_host=server.url, **KEYS, **files(server))

        assert resend_dead(run_dir, sink) == (1, 0)
        assert server.task.hyperparams["General"]["lr"]["value"] == "1"
        assert server.task.status == "completed"

    def test_a_published_task_is_left_alone(self, server, tmp_path):
        """What to do is said."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        server.task.fields["status"] = "published"
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        account = deliver(run_dir, server)

        assert account.status == "suspended"
        assert "is published" in account.reason
        assert server.task.status == "published"

    def test_a_deleted_task(self, server, tmp_path):
        """Is not made again behind its owner's back."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        server.tasks.clear()
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        account = deliver(run_dir, server)

        assert account.status == "suspended"
        assert "there is no task" in account.reason


class TestWatch:
    """The task's page has a stop button, and the server wants signs of life."""

    def train(self, server, tmp_path, press, **settings):
        """Train until asked to stop; tell why it was, and the task."""
        sink = Attentive(api_host=server.url, **KEYS, **files(server), **settings)
        with runtime.Run(name="abort", dir=tmp_path, sinks=[sink]) as run:
            run.log({"loss": 1.0}, step=1)
            eventually(lambda: server.tasks and server.task.pings)
            press(server)
            found = []

            def stopped():
                decision = run.safe_point(1)
                found.extend(decision.requests)
                return decision.stop

            eventually(stopped)
            folder = tmp_path / "checkpoint-2"
            folder.mkdir()
            (folder / "weights").write_bytes(b"w")
            run.publish(CheckpointSaved(step=2, path=str(folder)))
            run.log({"loss": 0.5}, step=2)
        (request,) = found
        return request, server.task

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"status": "stopped", "status_message": "Stopped by X"}, "aborted in ClearML: Stopped by X"),  # noqa: E501
            ({"status_message": "stopping"}, "aborted in ClearML: stopping"),
            ({"status": "failed"}, "marked failed in ClearML"),
            ({"status": "created"}, "reset in ClearML"),
        ],
    )  # fmt: skip
    def test_an_abort_stops_the_training_which_saves(self, *, server, tmp_path, fields, reason):
        """In a page, through an agent, by a reset; the last checkpoint and points arrive."""
        request, task = self.train(server, tmp_path, lambda s: s.task.fields.update(fields))

        assert (request.type, request.by, request.reason) == ("stop", "clearml", reason)
        assert task.status == "stopped"
        assert list(task.models) == ["checkpoint-2"]
        assert task.series("train", "loss") == [(1, 1.0), (2, 0.5)]
        assert "clearml" in task.fields["status_reason"]

    @pytest.mark.parametrize("ours", [True, False])
    def test_a_task_that_is_completed_meanwhile(self, *, server, tmp_path, ours):
        """Means an end too, unless somebody else is to end the task."""

        def press(server):
            server.task.fields["status"] = "completed"
            pings = server.task.pings
            eventually(lambda: server.task.pings > pings + 1)
            server.abort(next(iter(server.tasks)))

        request, _ = self.train(server, tmp_path, press, end_task=ours)

        assert request.reason.startswith("marked completed" if ours else "aborted")

    def test_a_task_that_fell_silent_is_begun_again(self, server, tmp_path):
        """The server stopped it because the network was away; nobody wants the training to end."""
        silent = "Forced stop (non-responsive)"

        def press(server):
            server.task.fields |= {"status": "stopped", "status_message": silent}
            eventually(lambda: server.task.status == "in_progress")
            server.abort(next(iter(server.tasks)))

        request, _ = self.train(server, tmp_path, press)

        assert request.reason == "aborted in ClearML: Stopped by Somebody"


class TestTasksOfOthers:
    """CLEARML_TASK_ID, and what the program has begun with the `clearml` package itself."""

    @pytest.fixture
    def theirs(self, server, tmp_path):
        """A task that is under way."""
        deliver(write_attempt(tmp_path / "theirs", [], outcome=None), server)
        server.task.fields["status"] = "in_progress"
        return next(iter(server.tasks))

    def test_a_task_to_go_on_with(self, server, tmp_path, theirs):
        """It is written to and ended; its files are its owner's business."""
        folder = tmp_path / "checkpoint-1"
        folder.mkdir()
        events = [*points(2), CheckpointSaved(step=1, path=str(folder))]
        deliver(write_attempt(tmp_path / "run", events), server, task_id=theirs)

        assert server.task.series("train", "loss") == [(0, 0.0), (1, 1.0)]
        assert server.task.models == {}
        assert server.task.status == "completed"

    def test_a_task_of_an_agent_is_used_again_when_it_is_queued_again(
        self, server, tmp_path, theirs
    ):
        """The same task, whatever state the queue left it in."""
        run_dir = write_attempt(tmp_path / "run", points(3), outcome="preempted")
        deliver(run_dir, server, task_id=theirs)
        server.task.fields["status"] = "queued"
        write_attempt(run_dir, points(3, first=3), attempt=2, from_step=2)
        deliver(run_dir, server, task_id=theirs)

        assert [step for step, _ in server.task.series("train", "loss")] == list(range(6))
        assert server.task.status == "completed"

    def test_one_that_the_package_has_is_not_ended(self, server, tmp_path, theirs, monkeypatch):
        """Whoever began it will end it."""
        monkeypatch.setitem(sys.modules, "clearml", _package(theirs))
        account = deliver(write_attempt(tmp_path / "run", points(2)), server)

        assert account.complete
        assert server.task.series("train", "loss") == [(0, 0.0), (1, 1.0)]
        assert server.task.status == "in_progress"


def _package(task_id):
    class Task:
        id = task_id

        @classmethod
        def current_task(cls):
            return cls

    class Package:
        pass

    Package.Task = Task
    return Package


class TestRefusals:
    """What an answer means."""

    @pytest.mark.parametrize(
        ("status", "code", "text", "kind"),
        [
            (200, 0, "OK", None),
            (400, 110, "Invalid task status", "TaskState"),
            (400, 101, "Invalid task id", "Misconfigured"),
            (400, 131, "Events not added", "Rejected"),
            (400, 12, "Validation error", "Rejected"),
            (400, 110, "Task is locked", "Misconfigured"),
            (401, 20, "Unauthorized", "Misconfigured"),
            (429, 0, "", "Unavailable"),
            (500, 100, "General data error", "Unavailable"),
        ],
    )
    def test_what_an_answer_means(self, status, code, text, kind):
        """The server's own code comes before its status."""
        meta = {"result_code": status, "result_subcode": code, "result_msg": text}
        response = Response(status, {}, json.dumps({"meta": meta, "data": {}}))
        error = ClearmlSink(**KEYS).classify(response, now=0.0)

        assert (error and type(error).__name__) == (kind and f"{kind}Error")

    def test_a_poisoned_record_is_found(self, server, tmp_path):
        """The others of its batch arrive."""
        run_dir = write_attempt(tmp_path / "run", [*points(5), *points(1, "bad"), *points(2, "b")])
        server.refuses = lambda body: body.get("variant") == "bad"
        account = deliver(run_dir, server)

        assert account.dead == 1
        assert len(server.task.series("train", "loss")) == 5
        assert len(server.task.series("train", "b")) == 2


CONF = """
# clearml-init wrote this
api {
    api_server: http://api.here:1234/  // with a comment
    web_server: "https://app.here"
    files_server = ${FILES}
    credentials {"access_key": "FILEKEY", "secret_key": "file\\"secret"}
    verify_certificate: False
    http { retries { total: 240 } }
}
sdk { aws { s3 { key: "", region: x, credentials: [ { bucket: "b", key: "other" } ] } } }
api.credentials.access_key: "LATER"
"""


class TestSettings:
    """Arguments beat the environment, that beats `clearml.conf`."""

    def test_what_is_missing_is_said(self, environment):
        """With the variables that set it, and where to get a key."""
        with pytest.raises(NotConfiguredError, match="CLEARML_API_ACCESS_KEY") as caught:
            ClearmlSink()
        assert "CLEARML_API_SECRET_KEY" in str(caught.value)
        assert "https://app.clear.ml/settings" in str(caught.value)
        environment.setenv("CLEARML_API_HOST", "localhost:8008")
        environment.setenv("CLEARML_FILES_HOST", "here")
        with pytest.raises(NotConfiguredError) as caught:
            ClearmlSink(**KEYS)
        assert str(caught.value).count("must be an http:// or https:// address") == 2

    def test_the_file(self, environment, tmp_path):
        """`~/clearml.conf` or CLEARML_CONFIG_FILE, with what people write in it."""
        environment.setenv("FILES", "http://files.here")
        (tmp_path / "clearml.conf").write_text(CONF)
        found = ClearmlSink().settings

        assert (found.api_host, found.pages, found.files) == (
            "http://api.here:1234",
            "https://app.here",
            "http://files.here",
        )
        assert found.api_access_key.get_secret_value() == "LATER"
        assert found.api_secret_key.get_secret_value() == 'file"secret'
        assert found.verify is False
        (tmp_path / "clearml.conf").rename(tmp_path / "other.conf")
        environment.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "other.conf"))
        assert ClearmlSink().settings == found

    def test_who_wins(self, environment, tmp_path):
        """A pair of keys is never put together from two places, nor a token with them."""
        (tmp_path / "clearml.conf").write_text(CONF)
        environment.setenv("CLEARML_API_ACCESS_KEY", "env")
        with pytest.raises(NotConfiguredError, match="CLEARML_API_SECRET_KEY"):
            ClearmlSink()
        environment.setenv("CLEARML_API_SECRET_KEY", "env-secret")
        environment.setenv("CLEARML_API_HOST", "https://api.env")
        environment.setenv("CLEARML_AUTH_TOKEN", "token")
        found = ClearmlSink(api_access_key="a", api_secret_key="s").settings  # noqa: S106

        assert found.api_access_key.get_secret_value() == "a"
        assert found.auth_token is None
        assert (found.api_host, found.pages) == ("https://api.env", "https://app.here")
        assert ClearmlSink().settings.auth_token.get_secret_value() == "token"

    @pytest.mark.parametrize(
        ("api", "pages", "files"),
        [
            ("https://api.clear.ml", "https://app.clear.ml", "https://files.clear.ml"),
            ("http://here:8008", "http://here:8080", "http://here:8081"),
            ("https://here", "https://here:8080", "https://here:8081"),
        ],
    )
    def test_the_other_servers(self, api, pages, files):
        """Guessed from the API server's address as ClearML's client does."""
        found = ClearmlSink(api_host=api, **KEYS).settings

        assert (found.pages, found.files) == (pages, files)

    @pytest.mark.parametrize(
        ("word", "when"),
        [("TRUE", "checkpoints"), ("0", "never"), ("end", "end"), ("all", "all"), ("", None)],
    )
    def test_upstreams_variables(self, environment, word, when):
        """CLEARML_PROJECT, CLEARML_TASK and CLEARML_LOG_MODEL, which knows yes and no there."""
        environment.setenv("CLEARML_LOG_MODEL", word)
        environment.setenv("CLEARML_PROJECT", "p/q")
        environment.setenv("CLEARML_TASK", "t")
        environment.setenv("CLEARML_TAGS", "a, b")
        found = ClearmlSink(**KEYS).settings

        assert (found.log_model, found.project, found.task) == (when, "p/q", "t")
        assert found.tags == ("a", "b")

    def test_names_of_the_task(self, server, tmp_path):
        """The project is made if there is none."""
        run_dir = write_attempt(tmp_path / "run", [])
        described = {"tags": ["x"], "task_type": "testing", "comment": "long notes"}
        deliver(run_dir, server, project="a (b)", task="t/u", **described)

        assert [each["name"] for each in server.projects.values()] == ["a (b)"]
        assert server.task.fields["name"] == "t/u"
        assert server.task.fields["tags"] == ["x"]
        assert server.task.fields["type"] == "testing"
        assert server.task.fields["comment"].startswith("long notes\n\nhotloop run ")

    def test_another_process_gets_the_same(self, environment, tmp_path):
        """Settings are plain data, secrets included, which no repr shows."""
        environment.setenv("CLEARML_API_HOST_VERIFY_CERT", "0")
        (tmp_path / "clearml.conf").write_text(CONF)
        sink = ClearmlSink(task_id="1")
        (tmp_path / "clearml.conf").unlink()
        environment.delenv("CLEARML_API_HOST_VERIFY_CERT")

        assert PlainSink.of(sink).make().settings == sink.settings
        assert "secret" not in repr(sink.settings).replace("api_secret_key", "")
        assert sink.settings.verify is False

    def test_offline(self, server, tmp_path, environment):
        """CLEARML_OFFLINE_MODE: everything waits in the journal for a `sync` without it."""
        environment.setenv("CLEARML_OFFLINE_MODE", "1")
        run_dir = write_attempt(tmp_path / "run", points(3))
        account = deliver(run_dir, server)
        assert account.pending == 5
        assert server.requests == []
        environment.delenv("CLEARML_OFFLINE_MODE")

        assert deliver(run_dir, server).complete
        assert len(server.task.series("train", "loss")) == 3


def test_a_check_makes_nothing(server):
    """Keys are tried and the project is looked for; there is none afterwards."""

    async def check(**settings):
        sink = ClearmlSink(api_host=server.url, **KEYS, **settings)
        try:
            return await sink.check()
        finally:
            await sink.release()

    assert anyio.run(check) == "ClearML answers"
    for _ in range(2):
        words = anyio.run(lambda: check(project="new"))
        assert words == "ClearML answers; the project 'new' will be made"
    assert server.projects == {}


def test_the_page_of_the_task(server, tmp_path):
    """Known as soon as the task is."""
    run_dir = write_attempt(tmp_path / "run", [])
    account = deliver(run_dir, server)

    (task_id,), (project,) = server.tasks, server.projects
    assert account.url == f"http://pages/projects/{project}/tasks/{task_id}/output/log"
    assert list_cursors(run_dir)["clearml"].state["task_id"] == task_id
