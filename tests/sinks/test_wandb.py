"""What the W&B sink sends, and what it makes of an unkind server; against a strict stand-in."""

import base64
import json
import math
from pathlib import Path

import pytest

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
    MetricDefined,
    MetricsLogged,
    MisconfiguredError,
    NotConfiguredError,
    ParametersLogged,
    Predicted,
    Response,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
    TrainerInitialized,
    list_cursors,
    resend_dead,
    sync_run,
    unheld,
)
from bus._handover import PlainSink
from sinks.testing import ScriptedServer, echo, redirect
from sinks.wandb import WandbSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.wandb import KEY, Refused, StandIn
from tests.servers.wandb_states import png

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


class SmallBatches(WandbSink):
    """Ten records at a time, as fast as it can."""

    limits = BatchLimits(events=10, age=0.0)


def deliver(run_dir, server, kind=SmallBatches, *, timeout=15, **settings):
    settings = {"base_url": server.url, "api_key": KEY, **settings}
    (account,) = sync_run(run_dir, [kind(**settings)], pace=QUICK, timeout=timeout)
    return account


def points(count, key="loss", first=0):
    return [MetricsLogged(step=n, metrics={key: float(n)}) for n in range(first, first + count)]


def _is_held(folder):
    with unheld(folder) as free:
        return not free


class TestTwice:
    """Nothing that is sent again is there twice, and no line is skipped."""

    def test_an_answer_lost_after_applying(self, server, tmp_path):
        """The same requests come again at the same offsets."""
        run_dir = write_attempt(tmp_path / "run", points(40), config={"lr": 1})
        server.faults["file_stream"].extend(["lose", None, "lose", "lose"])
        server.faults["UpsertBucket"].append("lose")
        account = deliver(run_dir, server)

        assert account.complete
        assert server.run.series("loss") == [(n, float(n)) for n in range(40)]
        assert [row["_step"] for row in server.run.history] == list(range(40))
        sent = [json.dumps(body) for body in server.calls("file_stream")]
        assert len(sent) - len(set(sent)) == 3

    def test_a_process_dies_before_its_request_is_acknowledged(self, server, tmp_path):
        """The next one rewrites the same lines, whatever the server has counted by then."""
        run_dir = write_attempt(tmp_path / "run", points(25))
        server.faults["file_stream"].extend([None, "lose", *[500] * 100])
        assert not deliver(run_dir, server, timeout=0.5).complete
        assert len(server.run.history) > 10
        server.faults.clear()
        account = deliver(run_dir, server)

        assert account.complete
        assert server.run.series("loss") == [(n, float(n)) for n in range(25)]

    def test_what_was_under_way_is_trained_again(self, server, tmp_path):
        """Lines that nobody acknowledged are rewritten by those of the next attempt."""
        run_dir = write_attempt(tmp_path / "run", points(25), outcome=None)
        server.faults["file_stream"].extend([None, "lose", *[500] * 100])
        deliver(run_dir, server, timeout=0.5)
        server.faults.clear()
        write_attempt(run_dir, points(20, first=6), attempt=2, from_step=5)
        deliver(run_dir, server)

        assert [step for step, _ in server.run.series("loss")] == list(range(26))

    def test_who_goes_on_sends_nothing_again(self, server, tmp_path):
        """A run that was delivered and closed is not even looked at."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        before = len(server.requests)
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.requests) == before

    def test_a_resumed_run_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out and counted, for each metric by itself."""
        run_dir = write_attempt(tmp_path / "run", [*points(10), *points(3, "rare")], outcome=None)
        deliver(run_dir, server)
        server.faults["file_stream"].append("lose")
        write_attempt(
            run_dir,
            [*points(12, first=2), *points(12, "rare", first=2)],
            attempt=2,
            from_step=1,
        )
        deliver(run_dir, server)

        assert [step for step, _ in server.run.series("loss")] == list(range(14))
        assert [step for step, _ in server.run.series("rare")] == list(range(14))
        about = server.run.values()["hotloop"]
        assert (about["attempt"], about["outcome"]) == (2, "finished")
        assert list_cursors(run_dir)["wandb"].state["masked"] == 9

    def test_a_lost_cursor(self, server, tmp_path):
        """The run is known by its id; what is there is not sent again."""
        run_dir = write_attempt(tmp_path / "run", points(10), outcome=None)
        deliver(run_dir, server)
        (run_dir / "cursors" / "wandb.json").unlink()
        write_attempt(run_dir, points(10, first=10), attempt=2, from_step=9)
        deliver(run_dir, server)

        assert [step for step, _ in server.run.series("loss")] == list(range(20))
        assert [row["_step"] for row in server.run.history] == list(range(20))

    def test_somebody_else_has_written_meanwhile(self, server, tmp_path):
        """Behind the end of ours: their lines stay, ours follow."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        deliver(run_dir, server)
        theirs = {"_step": 3, "_runtime": 9.0, "_timestamp": 9.0, "test/f1": 0.5}
        server.run.lines["wandb-history.jsonl"].append(json.dumps(theirs))
        write_attempt(run_dir, points(3, first=3), attempt=2, from_step=2)
        deliver(run_dir, server)

        rows = server.run.history
        assert [row["_step"] for row in rows] == list(range(7))
        assert rows[3] == theirs
        assert [step for step, _ in server.run.series("loss")] == list(range(6))


class TestRows:
    """What an event becomes."""

    def test_times_and_steps(self, server, tmp_path):
        """Those of the events, not of sending; every row has the step that is its axis."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(time=1000.5, step=7, metrics={"loss": 1.0}),
                MetricsLogged(time=1001.0, step=3, metrics={"late": 2.0}),
                MetricsLogged(time=1002.0, metrics={"no_step": 3.0}),
            ],
            started=1000.0,
        )
        deliver(run_dir, server)

        assert server.run.history == [
            {"_step": 0, "_timestamp": 1000.5, "_runtime": 0.5, "loss": 1, "train/global_step": 7},
            {"_step": 1, "_timestamp": 1001, "_runtime": 1, "late": 2, "train/global_step": 3},
            {"_step": 2, "_timestamp": 1002, "_runtime": 2, "no_step": 3, "train/global_step": 3},
        ]

    def test_numbers_that_json_lacks(self, server, tmp_path):
        """NaN and infinities stand bare in a line, as W&B's own client writes them."""
        values = {"a": math.nan, "b": math.inf, "c": -math.inf}
        run_dir = write_attempt(tmp_path / "run", [MetricsLogged(step=1, metrics=values)])
        deliver(run_dir, server)

        (line,) = server.run.lines["wandb-history.jsonl"]
        assert '"a":NaN,"b":Infinity,"c":-Infinity' in line
        assert server.run.summary["c"] == -math.inf

    def test_an_evaluation_that_was_logged_too_is_one_point(self, server, tmp_path):
        """As a trainer does it: first the metrics, then the evaluation."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=4, metrics={"eval_loss": 0.5, "epoch": 1.0}),
                Evaluated(
                    step=4, metrics={"eval_loss": 0.5, "epoch": 1.0, "f1": 0.25}, dataset="squad"
                ),
            ],
        )
        deliver(run_dir, server)

        assert len(server.run.history) == 2
        assert server.run.series("eval_loss") == [(4, 0.5)]
        assert server.run.series("eval/squad/f1") == [(4, 0.25)]

    def test_a_prediction(self, server, tmp_path):
        """Under `test/`, unless its names say so."""
        predicted = Predicted(step=4, metrics={"test_loss": 0.5, "f1": 0.25})
        deliver(write_attempt(tmp_path / "run", [predicted]), server)

        (row,) = server.run.history
        assert (row["test_loss"], row["test/f1"]) == (0.5, 0.25)

    @pytest.mark.parametrize(
        ("first", "settings"), [([], {"rewrite": True}), ([TrainerInitialized()], {})]
    )
    def test_keys_as_transformers_writes_them(self, server, tmp_path, first, settings):
        """If asked, and under our trainer; totals of the training stand in the summary alone."""
        metrics = [
            *first,
            MetricsLogged(step=1, metrics={"loss": 1.0, "epoch": 0.5}),
            MetricsLogged(step=1, metrics={"eval_loss": 2.0}),
            Evaluated(step=1, metrics={"eval_loss": 2.0, "epoch": 0.5}),
            MetricsLogged(step=1, metrics={"train_loss": 3.0, "epoch": 1.0}),
            TrainEnded(step=1, metrics={"train_loss": 3.0, "epoch": 1.0}),
        ]
        run_dir = write_attempt(tmp_path / "run", metrics)
        deliver(run_dir, server, **settings)

        own = ("_step", "_timestamp", "_runtime", "train/global_step")
        rows = [{k: v for k, v in row.items() if k not in own} for row in server.run.history]
        assert rows == [
            {"train/loss": 1.0, "train/epoch": 0.5},
            {"eval/loss": 2.0},
            {"train/epoch": 1.0},
        ]
        assert server.run.summary["train_loss"] == 3.0
        assert "epoch" not in server.run.summary

    def test_texts_histograms_console_and_machine(self, server, tmp_path):
        """Rows, lines of the console, rows of system metrics."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                TextLogged(step=1, key="sample", text="one"),
                HistogramLogged(step=1, key="grads", counts=[1.0, 2.0], edges=[0.0, 0.5, 1.0]),
                ConsoleLineLogged(time=0.5, text="hello", stream="stderr"),
                MessageLogged(time=1.0, text="two\nlines"),
                SystemMetricsLogged(
                    metrics={"gpu0/utilization_percent": 97.0, "host/cpu_percent": 5.0}
                ),
            ],
        )
        deliver(run_dir, server)

        assert server.run.series("sample") == [(1, "one")]
        histogram = {"_type": "histogram", "bins": [0.0, 0.5, 1.0], "values": [1.0, 2.0]}
        assert server.run.series("grads") == [(1, histogram)]
        assert server.run.console == [
            "ERROR 1970-01-01T00:00:00.500000 hello",
            "1970-01-01T00:00:01.000000 two",
            "1970-01-01T00:00:01.000000 lines",
        ]
        (machine,) = server.run.events
        assert machine["system.gpu.0.gpu"] == 97.0
        assert machine["system.cpu"] == 5.0

    def test_names_that_are_the_servers_own(self, server, tmp_path, caplog):
        """Left out and counted, with one warning; the rest of the row is there."""
        rows = [MetricsLogged(step=n, metrics={"_step": 9.0, "loss": 1.0}) for n in range(2)]
        run_dir = write_attempt(tmp_path / "run", rows)
        deliver(run_dir, server)

        assert len(server.run.series("loss")) == 2
        dropped = {"the name _step is the server's own": 2}
        assert list_cursors(run_dir)["wandb"].state["dropped"] == dropped
        assert len([each for each in caplog.messages if "the name _step" in each]) == 1

    def test_a_row_longer_than_a_line_may_be(self, server, tmp_path):
        """It becomes a dead letter; the rows around it and the summary arrive."""
        long = TextLogged(step=1, key="text", text="x" * ((10 << 20) + 1))
        run_dir = write_attempt(tmp_path / "run", [*points(1), long, *points(1, first=2)])
        account = deliver(run_dir, server)

        assert (account.complete, account.dead) == (True, 1)
        assert [row["_step"] for row in server.run.history] == [0, 1]
        assert server.run.summary["loss"] == 2.0

    def test_much_is_sent_in_several_requests(self, server, tmp_path):
        """A request stays below what the server takes at once."""
        texts = [TextLogged(step=n, key="text", text="x" * 700_000) for n in range(8)]
        run_dir = write_attempt(tmp_path / "run", texts)
        deliver(run_dir, server, WandbSink)

        sizes = [len(json.dumps(body)) for body in server.calls("file_stream")]
        assert max(sizes) < 10 << 20
        assert len(server.run.history) == 8


class TestDescription:
    """How the run is shown."""

    def test_configuration(self, server, tmp_path):
        """Nested as it is; what is logged later is added; ours stands under `hotloop`."""
        run_dir = write_attempt(
            tmp_path / "run",
            [ParametersLogged(parameters={"lr": 0.2, "more": None})],
            config={"lr": 0.1, "model": {"layers": [1, 2]}, "nan": math.nan},
        )
        deliver(run_dir, server)

        values = server.run.values()
        about = values.pop("hotloop")
        assert values == {"lr": 0.2, "model": {"layers": [1, 2]}, "more": None, "nan": "NaN"}
        assert about["outcome"] == "finished"
        assert about["attempt"] == 1
        assert server.run.config["_wandb"]["value"]["t"] == {}

    def test_a_configuration_larger_than_the_server_takes(self, server, tmp_path):
        """What made it so is a dead letter; the rest of it and the rows are there."""
        large = ParametersLogged(parameters={"large": "x" * (15 << 20)})
        run_dir = write_attempt(tmp_path / "run", [large, *points(2)], config={"lr": 0.1})
        account = deliver(run_dir, server)

        assert (account.complete, account.dead) == (True, 1)
        assert server.run.values()["lr"] == 0.1
        assert len(server.run.history) == 2

    def test_what_it_is_called(self, server, tmp_path, environment):
        """The variables of W&B's own client; an entity and a project of the key's owner."""
        for name, value in {
            "WANDB_NAME": "my run",
            "WANDB_NOTES": "a note",
            "WANDB_TAGS": "a, b,",
            "WANDB_RUN_GROUP": "group",
            "WANDB_JOB_TYPE": "train",
            "WANDB_PROJECT": "project",
            "WANDB_RUN_ID": "abc",
            "WANDB_HOST": "elsewhere",
        }.items():
            environment.setenv(name, value)
        run_dir = write_attempt(tmp_path / "run", points(1))
        account = deliver(run_dir, server)

        ((place, run),) = server.runs.items()
        assert place == ("fake-entity", "project", "abc")
        assert account.url == f"{server.url}/fake-entity/project/runs/abc"
        assert run.shown == {
            "displayName": "my run",
            "notes": "a note",
            "tags": ["a", "b"],
            "groupName": "group",
            "jobType": "train",
            "host": "elsewhere",
            "program": "train.py",
            "commit": "0" * 40,
        }

    def test_what_people_change_there_stays(self, server, tmp_path):
        """A resumed run does not take its new name away."""
        run_dir = write_attempt(tmp_path / "run", points(1), outcome=None)
        deliver(run_dir, server, tags=("a",))
        server.run.shown |= {"displayName": "better", "tags": ["b"]}
        write_attempt(run_dir, points(1, first=1), attempt=2, from_step=0)
        deliver(run_dir, server, tags=("a",))

        assert server.run.shown["displayName"] == "better"
        assert server.run.shown["tags"] == ["b"]

    def test_definitions_of_metrics(self, server, tmp_path):
        """Over the global step unless they say otherwise, with summary and goal."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricDefined(name="acc", goal="maximize", summary="max"),
                MetricDefined(name="mean", summary="mean"),
                MetricDefined(name="val/*", step_metric="epoch"),
                MetricsLogged(step=1, metrics={"acc": 0.5, "mean": 1.0, "epoch": 1.0}),
                MetricsLogged(step=2, metrics={"acc": 0.25, "mean": 2.0, "val/f1": 0.1}),
            ],
        )
        deliver(run_dir, server)

        assert server.run.config["_wandb"]["value"]["m"] == [
            {"1": "train/global_step", "6": [3], "7": []},
            {"1": "epoch", "6": [3], "7": []},
            {"1": "acc", "5": 1, "6": [3, 1], "7": [2], "8": 2},
            {"1": "mean", "5": 1, "6": [3, 1], "7": [3]},
            {"2": "val/*", "5": 2, "6": [1], "7": []},
            {"2": "*", "5": 1, "6": [1], "7": []},
        ]
        assert server.run.summary["acc"] == {"max": 0.5}
        assert server.run.summary["mean"] == {"mean": 1.5}
        assert server.run.history[1]["epoch"] == 1.0

    def test_summary(self, server, tmp_path):
        """The last values, and those that were given as such."""
        run_dir = write_attempt(
            tmp_path / "run",
            [*points(3), SummaryLogged(values={"best": {"f1": 1.0}}), *points(1, first=3)],
        )
        deliver(run_dir, server)

        summary = server.run.summary
        assert summary["loss"] == 3.0
        assert summary["best"] == {"f1": 1.0}
        assert summary["_step"] == 3
        assert summary["_wandb"] == {"runtime": int(summary["_runtime"])}

    def test_alerts(self, server, tmp_path):
        """With the service's own levels."""
        alerts = [
            AlertRaised(title=f"t{n}", text="x", level=level)
            for n, level in enumerate(("info", "warning", "error"))
        ]
        deliver(write_attempt(tmp_path / "run", alerts), server)

        assert server.run.alerts == [("t0", "x", "INFO"), ("t1", "x", "WARN"), ("t2", "x", "ERROR")]

    @pytest.mark.parametrize(
        ("outcome", "told"),
        [
            ("finished", (True, 0, False)),
            ("stopped", (True, 0, False)),
            ("failed", (True, 1, False)),
            ("preempted", (True, 1, True)),
            (None, (False, None, False)),
        ],
    )
    def test_how_it_ended(self, server, tmp_path, outcome, told):
        """One that crashed is left silent, which the server calls crashed."""
        run_dir = write_attempt(tmp_path / "run", points(1), outcome=outcome, error="why")
        deliver(run_dir, server)

        run = server.run
        assert (run.complete, run.exitcode, run.preempting) == told
        assert run.values()["hotloop"]["outcome"] == (outcome or "crashed")
        assert run.values()["hotloop"].get("error") == (outcome and "why")


class TestFiles:
    """Images, artifacts and checkpoints."""

    @pytest.fixture
    def events(self, tmp_path):
        found = []
        for step in (1, 2):
            folder = tmp_path / f"checkpoint-{step}"
            (folder / "inner").mkdir(parents=True)
            (folder / "weights").write_bytes(b"w" * step)
            (folder / "inner" / "state").write_bytes(b"s")
            found += [
                MetricsLogged(step=step, metrics={"loss": float(step), "epoch": step / 3}),
                CheckpointSaved(step=step, path=str(folder), metrics={"f1": 0.5}),
            ]
        return found

    @pytest.mark.parametrize(
        ("when", "versions"),
        [
            ("false", []),
            ("end", [("2", {"epoch_0.67", "checkpoint_global_step_2", "final_model", "latest"})]),
            (
                "checkpoint",
                [
                    ("1", {"epoch_0.33", "checkpoint_global_step_1"}),
                    ("2", {"epoch_0.67", "checkpoint_global_step_2", "final_model", "latest"}),
                ],
            ),
        ],
    )
    def test_checkpoints(self, tmp_path, events, when, versions):
        """As WANDB_LOG_MODEL says, with the aliases of Transformers' callback; also of a crash."""
        for outcome in ("finished", None):
            run_dir = write_attempt(tmp_path / f"run-{outcome}", events, outcome=outcome)
            with StandIn() as server:
                deliver(run_dir, server, log_model=when)
            self._check(server, versions)

    def _check(self, server, versions):
        found = [(str(len(each["files"]["weights"])), each["aliases"]) for each in server.artifacts]
        assert found == versions
        for each in server.artifacts:
            assert each["state"] == "COMMITTED"
            assert (each["type"], each["name"]) == ("model", f"model-{server.run.name}")
            assert each["files"].keys() == {"weights", "inner/state"}
            assert each["metadata"]["f1"] == 0.5
            assert "local_path" not in json.dumps(each["manifest"])

    def test_a_checkpoint_that_took_its_time(self, server, tmp_path, events):
        """Numbers of later steps are not said to be its own; its epoch follows from them."""
        first, saved, *_ = events
        later = [MetricsLogged(step=n, metrics={"loss": 9.0, "epoch": n / 3}) for n in (2, 3)]
        run_dir = write_attempt(tmp_path / "run", [first, *later, saved])
        deliver(run_dir, server, log_model="checkpoint")

        (artifact,) = server.artifacts
        assert {"epoch_0.33", "checkpoint_global_step_1"} < artifact["aliases"]
        metadata = {"f1": 0.5, "train/global_step": 1, "epoch": pytest.approx(1 / 3)}
        assert artifact["metadata"] == metadata

    def test_a_checkpoint_that_is_announced_as_an_artifact(self, server, tmp_path, events):
        """It is a version of the run's model, by the same policy."""
        saved = events[1]
        ready = ArtifactReady(
            step=1,
            path=saved.path,
            kind="checkpoint",
            name="c",
            aliases=("best",),
            metadata={"a": 1},
        )
        for when, count in (("false", 0), ("checkpoint", 1)):
            deliver(write_attempt(tmp_path / when, [ready]), server, log_model=when)
            assert len(server.artifacts) == count
        (artifact,) = server.artifacts
        assert {"best", "checkpoint_global_step_1"} < artifact["aliases"]
        assert artifact["metadata"] == {"a": 1}

    def test_the_same_content_is_no_new_version(self, server, tmp_path):
        """And what the server has is not sent again, nor after a lost answer."""
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "data").write_text("1,2")
        ready = [
            ArtifactReady(
                path=str(tmp_path / name), kind="data set", name="my/data", aliases=("v/1",)
            )
            for name in ("one", "two")
        ]
        server.faults["CommitArtifact"].append("lose")
        account = deliver(write_attempt(tmp_path / "run", [*ready, *points(1)]), server)

        assert account.complete
        (artifact,) = server.artifacts
        assert (artifact["type"], artifact["name"]) == ("data-set", "my-data")
        assert artifact["aliases"] == {"latest", "v-1"}
        assert len(server.calls("storage")) == 2
        assert server.run.series("loss") == [(0, 0.0)]

    def test_what_is_gone_is_a_dead_letter(self, server, tmp_path):
        """And holds up nothing."""
        gone = ArtifactReady(path=str(tmp_path / "gone"), kind="data", name="gone")
        account = deliver(write_attempt(tmp_path / "run", [gone, *points(2)]), server)

        assert (account.complete, account.dead) == (True, 1)
        assert len(server.run.history) == 2

    def test_a_last_checkpoint_that_is_gone(self, server, tmp_path, caplog):
        """One warning; the end of the run is told."""
        saved = CheckpointSaved(step=1, path=str(tmp_path / "gone"))
        account = deliver(write_attempt(tmp_path / "run", [saved]), server, log_model="end")

        assert (account.complete, account.dead) == (True, 0)
        assert server.run.exitcode == 0
        assert any("the last checkpoint was not stored" in each for each in caplog.messages)

    def test_what_is_being_uploaded_is_not_rotated_away(self, server, tmp_path, events):
        """A folder is held from its first digest to its last byte, through a failed try."""
        first, second = (Path(each.path) for each in events if isinstance(each, CheckpointSaved))
        server.faults["storage"].extend([None, 500])
        held = []

        def note(call):
            if call in ("CreateArtifact", "storage", "CommitArtifact"):
                held.append([path for path in (first, second) if _is_held(path)])

        server.before = note
        run_dir = write_attempt(tmp_path / "run", events, outcome=None)
        deliver(run_dir, server, log_model="checkpoint")

        assert [first] in held
        assert all(len(each) == 1 for each in held)
        assert not _is_held(first)
        assert not _is_held(second)

    def test_an_image(self, server, tmp_path):
        """Stored as a file of the run, which the row refers to; the key of the account stays."""
        picture = tmp_path / "a.png"
        picture.write_bytes(png(3, 2))
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MediaLogged(
                    step=1, key="img", path=str(picture), media_type="image/png", caption="c"
                ),
                MediaLogged(step=1, key="no", path=str(tmp_path / "no"), media_type="image/png"),
            ],
        )
        server.faults["storage"].append("lose")
        deliver(run_dir, server)

        ((_, value),) = server.run.series("img")
        assert value["path"].startswith("media/images/img_0_")
        assert (value["width"], value["height"], value["format"]) == (3, 2, "png")
        assert (value["_type"], value["caption"]) == ("image-file", "c")
        assert server.run.files == {value["path"]: picture.read_bytes()}
        assert server.run.uploaded == [value["path"]]
        assert sum(list_cursors(run_dir)["wandb"].state["dropped"].values()) == 1


class TestRefusals:
    """What an answer means."""

    def test_a_400_does_not_end_the_stream(self, server, tmp_path):
        """The guilty row is found; the rows behind it and the end of the run arrive."""
        run_dir = write_attempt(tmp_path / "run", points(20))
        server.refuses = '\\"loss\\":7.0'
        account = deliver(run_dir, server)

        assert account.dead == 1
        assert [step for step, _ in server.run.series("loss")] == [*range(7), *range(8, 20)]
        assert [row["_step"] for row in server.run.history] == list(range(19))
        assert server.run.exitcode == 0

    def test_a_dead_letter_that_is_sent_again(self, server, tmp_path):
        """Its row comes last, also after a resume that has trained beyond it; the end stays."""
        server.refuses = '\\"loss\\":7.0'
        run_dir = write_attempt(tmp_path / "run", points(20), outcome=None)
        deliver(run_dir, server)
        write_attempt(run_dir, points(12, first=18), attempt=2, from_step=17)
        deliver(run_dir, server)
        server.refuses = None
        sink = SmallBatches(base_url=server.url, api_key=KEY)
        assert resend_dead(run_dir, sink) == (1, 0)

        assert server.run.series("loss")[-1] == (7, 7.0)
        assert sorted(step for step, _ in server.run.series("loss")) == list(range(30))
        assert (server.run.complete, server.run.exitcode) == (True, 0)

    @pytest.mark.parametrize(
        ("status", "headers", "kind"),
        [
            (200, {}, None),
            (400, {}, "Rejected"),
            (400, {"x-wandb-error-code": "run_metric_limit_exceeded"}, "Misconfigured"),
            (401, {}, "Misconfigured"),
            (404, {}, "Misconfigured"),
            (410, {}, "Misconfigured"),
            (413, {}, "Rejected"),
            (429, {}, "Unavailable"),
            (500, {}, "Unavailable"),
            (501, {}, "Misconfigured"),
        ],
    )
    def test_what_an_answer_means(self, status, headers, kind):
        """As W&B's own client decides about trying again."""
        sink = WandbSink(base_url="http://localhost", api_key=KEY)
        error = sink.classify(Response(status, headers, "words"), now=0.0)

        assert (error and type(error).__name__) == (kind and f"{kind}Error")

    def test_the_wish_of_a_server_that_is_asked_too_much(self):
        """RateLimit-Reset, in seconds, where there is no Retry-After."""
        sink = WandbSink(base_url="http://localhost", api_key=KEY)
        wishes = [
            sink.classify(Response(429, headers, ""), now=0.0).retry_after
            for headers in ({"ratelimit-reset": "7"}, {"retry-after": "3", "ratelimit-reset": "7"})
        ]

        assert wishes == [7.0, 3.0]

    @pytest.mark.parametrize("fault", [409, 429, 500, "lose"])
    def test_making_the_run_is_tried_again(self, server, tmp_path, fault):
        """Also on 409, which the service answers when two change a run at once."""
        server.faults["UpsertBucket"].append(fault)
        server.faults["RunResumeStatus"].append(500)
        account = deliver(write_attempt(tmp_path / "run", points(2)), server)

        assert account.complete
        assert len(server.run.history) == 2

    @pytest.mark.parametrize(
        "message", ["permission denied", "run config cannot exceed 15 MB", "user is not logged in"]
    )
    def test_a_run_that_cannot_be_made(self, server, tmp_path, message):
        """No event is blamed for it: the sink waits until somebody acts."""
        answers = [Refused(400, message)] * 100
        server.faults["UpsertBucket"].extend(answers)
        account = deliver(write_attempt(tmp_path / "run", points(2)), server, timeout=1)

        assert (account.status, account.dead) == ("suspended", 0)
        assert message in account.reason

    def test_a_deleted_run_is_not_made_again(self, server, tmp_path):
        """Somebody deleted it on purpose; what to do is said."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        server.runs.clear()
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        account = deliver(run_dir, server, timeout=1)

        assert account.status == "suspended"
        assert "is gone; restore it" in account.reason
        assert server.runs == {}


@pytest.mark.anyio
class TestCheck:
    """What `hotloop doctor --sinks` asks."""

    async def test_whose_key_it_is(self, server):
        """Nothing is left there."""
        sink = WandbSink(base_url=server.url, api_key=KEY)
        assert await sink.check() == "W&B answers; the key belongs to me"
        assert server.runs == {}
        await sink.release()

    async def test_another_key(self, server):
        """Is said, with the server's words."""
        sink = WandbSink(base_url=server.url, api_key=KEY[::-1])
        with pytest.raises(MisconfiguredError, match=r"401.*check the credentials"):
            await sink.check()
        await sink.release()


class TestResume:
    """WANDB_RUN_ID and WANDB_RESUME."""

    @pytest.fixture
    def theirs(self, server, tmp_path):
        """A run that somebody else has made."""
        run_dir = write_attempt(tmp_path / "theirs", points(5), config={"old": 1, "lr": 1})
        deliver(run_dir, server, run_id="abc")
        return server.run

    @pytest.mark.parametrize("resume", ["allow", "must", "auto", "true"])
    def test_going_on_with_a_run(self, server, theirs, tmp_path, environment, resume):
        """Behind its rows, with its configuration and summary."""
        environment.setenv("WANDB_RUN_ID", "abc")
        environment.setenv("WANDB_RESUME", resume)
        run_dir = write_attempt(tmp_path / "ours", points(2, "f1"), config={"lr": 2})
        account = deliver(run_dir, server)

        assert account.complete
        assert [row["_step"] for row in theirs.history] == list(range(7))
        assert theirs.series("f1") == [(0, 0.0), (1, 1.0)]
        values = theirs.values()
        assert (values["old"], values["lr"]) == (1, 2)
        assert (theirs.summary["loss"], theirs.summary["f1"]) == (4.0, 1.0)
        assert theirs.history[-1]["_runtime"] >= theirs.history[4]["_runtime"]

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"resume": "never", "run_id": "abc"}, "there is a run abc"),
            ({"resume": "must", "run_id": "other"}, "there is no run other"),
        ],
    )
    def test_what_must_not_be(self, server, theirs, tmp_path, settings, reason):
        """Nothing is written, and the reason is said."""
        run_dir = write_attempt(tmp_path / "ours", points(2))
        account = deliver(run_dir, server, timeout=1, **settings)

        assert account.status == "suspended"
        assert reason in account.reason
        assert len(theirs.history) == 5
        assert len(server.runs) == 1

    def test_a_lost_answer_is_no_other_run(self, server, tmp_path):
        """With `never`, the second try knows the run that the first has made."""
        server.faults["UpsertBucket"].append("lose")
        run_dir = write_attempt(tmp_path / "run", points(2))
        account = deliver(run_dir, server, run_id="abc", resume="never")

        assert account.complete
        assert len(server.run.history) == 2


class TestSettings:
    """Arguments beat the environment, that beats W&B's own files."""

    def test_what_is_missing_is_said(self, environment):
        """With the variable that sets it, and where to get a key."""
        with pytest.raises(NotConfiguredError, match="WANDB_API_KEY") as caught:
            WandbSink()
        assert "wandb.ai/authorize" in str(caught.value)
        environment.setenv("WANDB_API_KEY", "short")
        with pytest.raises(NotConfiguredError, match="40 characters") as caught:
            WandbSink()
        assert "short" not in str(caught.value)
        with pytest.raises(NotConfiguredError, match="run_id"):
            WandbSink(api_key=KEY, resume="must")
        with pytest.raises(NotConfiguredError, match="disabled"):
            WandbSink(api_key=KEY, mode="disabled")
        environment.setenv("WANDB_DISABLED", "true")
        with pytest.raises(NotConfiguredError, match="WANDB_DISABLED"):
            WandbSink(api_key=KEY)

    def test_files(self, environment, tmp_path):
        """.netrc for the key, settings files for the rest; those of this folder first."""
        keys = {name: name[0] * 40 for name in ("netrc", "file", "env")}
        (tmp_path / ".netrc").write_text(
            f"machine api.wandb.ai login user password {keys['netrc']}\n"
        )
        (tmp_path / ".netrc").chmod(0o600)
        home = tmp_path / ".config" / "wandb"
        home.mkdir(parents=True)
        (home / "settings").write_text("[default]\nentity = home\nproject = home\n")
        here = tmp_path / "wandb"
        here.mkdir()
        (here / "settings").write_text(f"[default]\nproject = here\napi_key = {keys['file']}\n")

        settings = WandbSink().settings
        assert (settings.entity, settings.project) == ("home", "here")
        assert settings.api_key.get_secret_value() == keys["netrc"]
        elsewhere = WandbSink(base_url="http://localhost").settings
        assert elsewhere.api_key.get_secret_value() == keys["file"]
        environment.setenv("WANDB_API_KEY", keys["env"])
        environment.setenv("WANDB_PROJECT", "env")
        settings = WandbSink(entity="argument").settings
        assert (settings.entity, settings.project) == ("argument", "env")
        assert settings.api_key.get_secret_value() == keys["env"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("run_id", "a/b"),
            ("project", "a/b"),
            ("base_url", "localhost"),
            ("base_url", "http://user:word@localhost"),
            ("resume", "perhaps"),
            ("log_model", "sometimes"),
            ("mode", "shared"),
            ("heartbeat", 300),
        ],
    )
    def test_what_cannot_be(self, field, value):
        """Is said before anything begins."""
        with pytest.raises(NotConfiguredError, match=field):
            WandbSink(**{"api_key": KEY, field: value})

    def test_another_process_gets_the_same(self, environment):
        """Settings are plain data, secrets included; none of them is shown."""
        environment.setenv("WANDB_LOG_MODEL", "1")
        environment.setenv("WANDB_INSECURE_DISABLE_SSL", "true")
        sink = WandbSink(api_key=KEY, tags=("a",))
        environment.delenv("WANDB_LOG_MODEL")
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings
        assert (sink.settings.log_model, sink.settings.verify) == ("end", False)
        assert KEY not in repr(sink.settings)

    def test_a_service_account_says_for_whom(self, server, tmp_path, environment):
        """WANDB_USERNAME and WANDB_USER_EMAIL, as headers."""
        environment.setenv("WANDB_USERNAME", "me")
        environment.setenv("WANDB_USER_EMAIL", "me@example.org")
        deliver(write_attempt(tmp_path / "run", points(1)), server)

        assert {each.get("x-wandb-username") for each in server.headers} == {"me"}
        assert {each.get("x-wandb-user-email") for each in server.headers} == {"me@example.org"}


def _by_variable(environment, _home):
    environment.setenv("WANDB_API_KEY", KEY)


def _by_netrc(_environment, home):
    (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")


def _by_settings_file(_environment, home):
    (home / "wandb").mkdir()
    (home / "wandb" / "settings").write_text(f"[default]\napi_key = {KEY}\n")


class TestSecrets:
    """A planted key is shown to the server and to nobody else."""

    @pytest.mark.parametrize("plant", [_by_variable, _by_netrc, _by_settings_file])
    @pytest.mark.parametrize("code", [307, 400, 401, 500])
    def test_the_key(self, tmp_path, environment, caplog, plant, code):
        """Not in files, logs, accounts or reprs, nor where a redirect leads."""
        plant(environment, tmp_path)
        run_dir = write_attempt(tmp_path / "runs" / "run", points(2))
        with ScriptedServer() as server, ScriptedServer() as elsewhere:
            server.always = redirect(elsewhere.url, code) if code < 400 else echo(code)
            sink = WandbSink(base_url=server.url)
            with caplog.at_level("DEBUG"):
                accounts = sync_run(run_dir, [sink], pace=QUICK, timeout=0.4)
            heard = [request.headers.get("authorization") for request in server.requests]
            said = [repr(request) for request in elsewhere.requests]

        encoded = base64.b64encode(f"api:{KEY}".encode()).decode()
        assert set(heard) == {f"Basic {encoded}"}
        said += [repr(accounts), repr(sink), repr(sink.settings), str(sink.settings)]
        said += [caplog.handler.format(each) for each in caplog.records]
        said += [each.read_text() for each in run_dir.rglob("*") if each.is_file()]
        for text in said:
            assert KEY not in text
            assert encoded not in text
