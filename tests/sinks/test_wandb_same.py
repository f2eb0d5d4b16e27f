"""What W&B's own client leaves on the stand-in, our sink leaves there too: recording by recording.

The same calls in our terms are made from what a recording left: a row is an event with its time and
step. What differs everywhere, and on purpose:

- a row of ours has the step as `train/global_step`, and `_wandb.m` says that it is the axis;
- the configuration has `hotloop`, and of `_wandb` only what a run cannot be without;
- `config.yaml`, `wandb-metadata.json`, `wandb-summary.json` and `output.log` are not uploaded as
  files, since the server has their content;
- the numbers about the machine are those of our own monitor;
- numbers are floating-point; nested objects, lists and None are no metrics and never get this far;
- NaN and infinities in the configuration are texts, as the journal has them; W&B shows them alike.

What differs in one scenario stands in its test.
"""

import re
from datetime import UTC, datetime

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
    MetricDefined,
    MetricsLogged,
    ParametersLogged,
    SummaryLogged,
    TextLogged,
    sync_run,
)
from sinks.wandb import WandbSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.wandb import KEY, StandIn
from tests.servers.wandb_replay import load, replayed
from tests.servers.wandb_states import AXIS, OWN, columns, config, ending, is_number, shown, summary

pytestmark = pytest.mark.usefixtures("environment")

TOTALS = {
    *("train_loss", "train_runtime", "total_flos"),
    *("train_samples_per_second", "train_steps_per_second"),
}


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


class SmallBatches(WandbSink):
    """Several requests for a few rows."""

    limits = BatchLimits(events=10, age=0.0)


def deliver(run_dir, server, **settings):
    sink = SmallBatches(base_url=server.url, api_key=KEY, **settings)
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    assert account.complete
    return server.run


def theirs(name):
    """What the recording left: its run and the server."""
    server, _ = replayed(name)
    return server.run, server


def as_events(rows, *, step=lambda row: row["_step"]):
    """The calls that made these rows, in our terms."""
    for row in rows:
        numbers = {k: v for k, v in row.items() if k not in OWN and is_number(v)}
        texts = {k: v for k, v in row.items() if isinstance(v, str)}
        place = {"time": row["_timestamp"], "step": step(row)}
        if numbers:
            yield MetricsLogged(**place, metrics=numbers)
        for key, text in texts.items():
            yield TextLogged(**place, key=key, text=text)


class TestRows:
    """A run of numbers."""

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("basic_finish0", "finished"),
            ("crash_exception", "failed"),
            ("crash", None),
            ("preempting", "preempted"),
            ("retries", "finished"),
            ("weird_values", "finished"),
        ],
    )
    def test_a_run(self, server, tmp_path, name, outcome):
        """Rows, summary, configuration, description and the end of it are the same.

        Differs: `summary.update` of a nested value is compared where it can be logged.
        """
        their, _ = theirs(name)
        overridden = {"best": 0.01} if name == "basic_finish0" else {}
        events = [
            *as_events(their.history),
            ParametersLogged(parameters=config(their)),
            SummaryLogged(values=overridden),
        ]
        first = their.history[0]
        started = first["_timestamp"] - first["_runtime"]
        run_dir = write_attempt(tmp_path / "run", events, outcome=outcome, started=started)
        described = shown(their)
        ours = deliver(
            run_dir,
            server,
            run_name=described.get("displayName", "run"),
            notes=described.get("notes"),
            tags=tuple(described.get("tags", ())),
            run_group=described.get("groupName"),
            job_type=described.get("jobType"),
        )

        assert columns(ours) == columns(their)
        loggable = {key: v for key, v in summary(their).items() if not isinstance(v, dict)}
        assert summary(ours) == loggable
        assert config(ours) == config(their)
        assert shown(ours) == {"displayName": "run", **described}
        assert ending(ours) == ending(their)

    def test_faults_and_throttling(self, server, tmp_path):
        """The same faults, the same rows: 429, 503, applied and dropped."""
        their, _ = theirs("retries")
        server.faults["file_stream"].extend([429, 503, "lose", "lose"])
        run_dir = write_attempt(tmp_path / "run", list(as_events(their.history)))

        assert columns(deliver(run_dir, server)) == columns(their)

    def test_a_400(self, server, tmp_path):
        """Differs: after it, theirs sends nothing more and the run looks crashed; ours goes on."""
        their, _ = theirs("fatal_400")
        rows = [{"_step": n, "_timestamp": 1.0 * n, "i": n} for n in range(10)]
        server.refuses = '\\"i\\":1.0'
        ours = deliver(write_attempt(tmp_path / "run", list(as_events(rows))), server)

        assert (len(their.history), ending(their)) == (1, (False, None, False))
        assert [row["i"] for row in ours.history] == [0, *range(2, 10)]
        assert ending(ours) == (True, 0, False)

    def test_definitions(self, server, tmp_path):
        """The axis is copied into rows that lack it, the summary is as defined.

        Differs: one summary for a metric, where theirs may have several; `hidden` has no event.
        """
        their, _ = theirs("define_metric")
        rows = their.history
        rows[-1].pop(AXIS)
        events = [
            MetricDefined(name="val/acc", summary="max"),
            *as_events(rows, step=lambda row: row.get(AXIS)),
        ]
        ours = deliver(write_attempt(tmp_path / "run", events), server)

        assert columns(ours) == columns(their)
        assert [row[AXIS] for row in ours.history] == [row[AXIS] for row in their.history]
        assert ours.summary["val/acc"]["max"] == their.summary["val/acc"]["max"]
        defined = [run.config["_wandb"]["value"]["m"] for run in (ours, their)]
        assert [next(each for each in m if each.get("2") == "*").keys() for m in defined] == [
            {"2", "5", "6", "7"}
        ] * 2


class TestResume:
    """A run that goes on."""

    def test_behind_what_is_there(self, server, tmp_path):
        """Rows, console, steps, configuration and summary go on."""
        their, _ = theirs("resume")
        before, _ = theirs("resume")
        for name, count in (("wandb-history.jsonl", 5), ("output.log", 2)):
            del before.lines[name][count:]
        before.lines["wandb-history.jsonl"][4] = '{"_step":4,"_runtime":2.0,"_timestamp":2.0}'
        del before.lines["wandb-events.jsonl"][1:]
        before.config = {
            "old": {"value": 1},
            "lr": {"value": 1},
            "_wandb": {"value": {"t": {}}},
        }
        before.summary = {"best": 3, "_step": 4, "loss": 4}
        server.runs["fake-entity", "fake-project", "resume01"] = before
        lines = [
            ConsoleLineLogged(time=0.0, text="resumed line"),
            ConsoleLineLogged(time=0.0, text="step right after resume: 0", stream="stderr"),
        ]
        rows = list(as_events(their.history[5:]))
        run_dir = write_attempt(tmp_path / "run", [*lines, *rows], config={"lr": 2, "new": 1})
        ours = deliver(run_dir, server, run_id="resume01", project="fake-project", resume="must")

        assert [row["_step"] for row in ours.history[4:]] == [4, 5, 6, 7]
        assert [row["loss"] for row in ours.history[5:]] == [10, 11, 12]
        said = [[re.sub(r"\d\S+T\S+", "", line) for line in run.console] for run in (ours, their)]
        assert said[0] == said[1]
        assert config(ours) == config(their)
        assert summary(ours) == summary(their)

    def test_a_replay_from_a_checkpoint(self, server, tmp_path):
        """Eight rows are there, 0 to 13 come again: fourteen in all, the first values stay."""
        their, _ = theirs("resume_after_kill9")
        rows = list(as_events(their.history))
        run_dir = write_attempt(tmp_path / "run", rows[:8], outcome=None)
        deliver(run_dir, server)
        again = [each.model_copy(update={"metrics": {"loss": -1.0}}) for each in rows[1:8]]
        write_attempt(run_dir, [*again, *rows[8:]], attempt=2, from_step=0)

        assert columns(deliver(run_dir, server)) == columns(their)

    def test_an_id_that_is_used_again(self, server, tmp_path):
        """Differs: theirs numbers its rows from 0 again and replaces the configuration."""
        their, _ = theirs("reuse_id_no_resume")
        deliver(write_attempt(tmp_path / "a", [], config={"old": 1}), server, run_id="abc")
        rows = list(as_events(their.history[-2:]))
        run_dir = write_attempt(tmp_path / "b", rows, config={"lr": 3})
        ours = deliver(run_dir, server, run_id="abc")

        assert columns(ours)["loss"] == columns(their)["loss"]
        assert (config(their), config(ours)) == ({"lr": 3}, {"lr": 3, "old": 1})


class TestRest:
    """Console, media, alerts, artifacts, and a whole training."""

    def test_console(self, server, tmp_path):
        """Differs: a progress bar's later states are lines, where theirs rewrites one."""
        their, _ = theirs("console_stats")
        events = []
        for line in their.console:
            error, rest = line.startswith("ERROR "), line.removeprefix("ERROR ")
            stamp, text = rest.split(" ", 1)
            time = _seconds(stamp)
            stream = "stderr" if error else "stdout"
            events.append(ConsoleLineLogged(time=time, text=text, stream=stream))
        ours = deliver(write_attempt(tmp_path / "run", events), server)

        assert ours.console == their.console

    def test_media_and_alerts(self, server, tmp_path):
        """The same images under the same names, the same histogram and alert.

        Differs: several images of one key are rows of their own; tables and files of the run's
        folder have no event.
        """
        their, _ = theirs("media")
        rows = {key: row for row in their.history for key in ("img", "hist", "text") if key in row}
        image = rows["img"]["img"]
        picture = tmp_path / "picture.png"
        picture.write_bytes(their.files[image["path"]])
        hist = rows["hist"]["hist"]
        events = [
            MediaLogged(
                step=0, key="img", path=str(picture), media_type="image/png", caption="hello"
            ),
            HistogramLogged(step=2, key="hist", counts=hist["values"], edges=hist["bins"]),
            TextLogged(step=4, key="text", text=rows["text"]["text"]),
            *(AlertRaised(title=title, text=text) for title, text, _ in their.alerts),
        ]
        ours = deliver(write_attempt(tmp_path / "run", events), server)

        assert ours.series("img")[0][1] == image
        assert ours.files == {image["path"]: their.files[image["path"]]}
        assert ours.uploaded == [image["path"]]
        assert ours.series("hist")[0][1] == hist
        assert ours.series("text")[0][1] == rows["text"]["text"]
        assert ours.alerts == their.alerts

    def test_artifacts(self, server, tmp_path):
        """Two versions, with digest, aliases, metadata and contents.

        Differs: a manifest of ours does not tell where the files lay here.
        """
        _, before = theirs("artifact")
        events = []
        for number, artifact in enumerate(before.artifacts):
            folder = tmp_path / f"version-{number}"
            folder.mkdir()
            for name, content in artifact["files"].items():
                (folder / name).write_bytes(content)
            events.append(
                ArtifactReady(
                    path=str(folder),
                    kind=artifact["type"],
                    name=artifact["name"],
                    aliases=tuple(sorted(artifact["aliases"] - {"latest"})),
                    metadata=artifact["metadata"],
                )
            )
        deliver(write_attempt(tmp_path / "run", events), server)

        compared = ("name", "type", "digest", "state", "aliases", "metadata", "files", "sums")
        assert [[each[key] for key in compared] for each in server.artifacts] == [
            [each[key] for key in compared] for each in before.artifacts
        ]
        manifests = [[each["manifest"] for each in one.artifacts] for one in (server, before)]
        for mine, other in zip(*manifests, strict=True):
            assert mine.keys() == other.keys()
            for name, entry in other["contents"].items():
                assert mine["contents"][name].keys() == entry.keys() - {"local_path"}

    def test_a_training_as_transformers_logs_it(self, server, tmp_path):
        """With `rewrite`: the same keys, values, steps, summary, and checkpoints by their aliases.

        Differs: `base_model` is not there; `final_model` is an alias of the last checkpoint and no
        copy of it; metadata has no `model/num_parameters`.
        """
        their, before = theirs("hf_trainer")
        events = list(_training(their, tmp_path))
        totals = {key: each for key, each in summary(their).items() if key in TOTALS}
        last = their.history[-1]
        events.append(
            MetricsLogged(
                time=last["_timestamp"],
                step=last[AXIS],
                metrics={**{k: float(v) for k, v in totals.items()}, "epoch": last["train/epoch"]},
            )
        )
        run_dir = write_attempt(tmp_path / "run", events, config=config(their))
        ours = deliver(run_dir, server, rewrite=True, log_model="checkpoint")

        assert columns(ours) == columns(their)
        assert [row[AXIS] for row in ours.history] == [row[AXIS] for row in their.history]
        assert summary(ours) == summary(their)
        assert config(ours) == config(their)
        definitions = [
            [each for each in run.config["_wandb"]["value"]["m"] if AXIS in each.values()]
            for run in (ours, their)
        ]
        assert definitions[0] == definitions[1]
        saved = [each for each in before.artifacts if each["metadata"].get("train/loss")][:2]
        for mine, other in zip(server.artifacts, saved, strict=True):
            assert mine["aliases"] - {"latest", "final_model"} == other["aliases"]
            other["metadata"].pop("model/num_parameters")
            assert mine["metadata"] == other["metadata"]
        assert {"latest", "final_model"} <= server.artifacts[-1]["aliases"]


def _training(their, tmp_path):
    """What a trainer publishes for these rows, checkpoints behind the evaluations."""
    for row in their.history[:-1]:
        place = {"time": row["_timestamp"], "step": row[AXIS]}
        plain = {
            key.replace("train/", "").replace("eval/", "eval_"): value
            for key, value in row.items()
            if key not in OWN
        }
        yield MetricsLogged(**place, metrics=plain)
        if "eval_loss" in plain:
            plain.pop("epoch")
            yield Evaluated(**place, metrics=plain)
            folder = tmp_path / f"checkpoint-{row[AXIS]}"
            folder.mkdir()
            (folder / "trainer_state.json").write_text(str(row[AXIS]))
            yield CheckpointSaved(**place, path=str(folder))


def _seconds(stamp):
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


class TestFields:
    """What a request holds."""

    def test_no_field_that_theirs_does_not_send(self, server, tmp_path):
        """For each call: ours are among those of the recordings.

        Differs: we remember whose run it is; and the recorded program was in no repository.
        """
        sent = {}
        for name in ("artifact", "basic_finish0", "media", "preempting", "resume"):
            for request in load(name):
                for call, keys in _fields(request["op"], request["req"]):
                    sent.setdefault(call, set()).update(keys)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "file").write_text("x")
        events = [
            MetricsLogged(step=1, metrics={"loss": 1.0}),
            AlertRaised(title="t"),
            ArtifactReady(path=str(tmp_path / "data"), kind="model", name="m"),
        ]
        run_dir = write_attempt(tmp_path / "run", events, outcome=None)
        deliver(run_dir, server, tags=("a",), notes="n", run_group="g", job_type="j")
        write_attempt(run_dir, [], attempt=2, from_step=1, outcome="preempted")
        deliver(run_dir, server)

        more = {}
        for _, call, body in server.requests:
            request = {"variables": body} if isinstance(body, dict) and call[0].isupper() else body
            for name, keys in _fields(call, request):
                if unknown := keys - sent[name]:
                    more.setdefault(name, set()).update(unknown)
        assert more == {"RunResumeStatus": {"entity"}, "UpsertBucket": {"commit"}}


def _fields(call, request):
    """The names of what a request says, by call; fields that are null say nothing."""
    if not isinstance(request, dict):
        return
    if "variables" in request:
        given = {key for key, value in request["variables"].items() if value is not None}
        yield call, given
        if isinstance(entry := request["variables"].get("input"), dict):
            yield f"{call} input", {key for key, value in entry.items() if value is not None}
    else:
        yield "file_stream", set(request)
        yield "files", set(request.get("files", ()))
