"""What the Neptune sink sends, and what it makes of an unkind server; against a strict stand-in."""

import base64
import json
import math
import sys
from pathlib import Path

import anyio
import pytest

import runtime
from bus import (
    JOURNAL_FOLDER,
    AlertRaised,
    ArtifactReady,
    BatchLimits,
    Bus,
    CheckpointSaved,
    ConsoleLineLogged,
    DecisionApplied,
    Evaluated,
    JournalReader,
    MediaLogged,
    MessageLogged,
    MetricDefined,
    MetricsLogged,
    MisconfiguredError,
    NotConfiguredError,
    ParametersLogged,
    Response,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    UnavailableError,
    list_cursors,
    sync_run,
    unheld,
)
from bus._handover import PlainSink
from sinks._neptune_signal import listen
from sinks._neptune_token import ApiToken
from sinks.neptune import NeptuneSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.neptune import Refused, StandIn, api_token
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("environment")

TOKEN = api_token("https://neptune.example.org")
LOSS = "finetuning/train/loss"


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


class SmallBatches(NeptuneSink):
    """Ten records at a time."""

    limits = BatchLimits(events=10, age=0.0)


def made(server, kind=NeptuneSink, **settings):
    return kind(**{"api_token": server.token, "project": "team/demo", **settings})


def deliver(run_dir, server, kind=NeptuneSink, *, timeout=15, **settings):
    sink = made(server, kind, **settings)
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=timeout)
    return account


def points(count, key="loss", first=0):
    return [MetricsLogged(step=n, metrics={key: float(n)}) for n in range(first, first + count)]


def expected(count, first=0):
    return [(n, float(n)) for n in range(first, first + count)]


def dropped(run_dir):
    """What was not stored, by reason."""
    return list_cursors(run_dir)["neptune"].state.get("dropped", {})


class TestTwice:
    """Nothing that is sent again is there twice."""

    def test_an_answer_lost_after_applying(self, server, tmp_path):
        """The same requests come again, and the server leaves out the points it has."""
        run_dir = write_attempt(tmp_path / "run", points(40), config={"lr": 1})
        server.faults["attributes/operations"].extend(["lose", None, "lose", "lose"])
        account = deliver(run_dir, server, SmallBatches)

        assert account.complete
        assert server.run.series(LOSS) == expected(40)
        sent = [json.dumps(body) for body in server.calls("attributes/operations")]
        assert len(sent) - len(set(sent)) == 3
        assert dropped(run_dir) == {}

    def test_the_answer_to_making_the_run_is_lost(self, server, tmp_path):
        """It is made under an id of ours, by which the server knows it."""
        server.faults["experiments"].append("lose")
        run_dir = write_attempt(tmp_path / "run", points(3))
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.runs) == 1
        assert server.run.series(LOSS) == expected(3)

    def test_who_goes_on_sends_nothing_again(self, server, tmp_path):
        """The run's id and what has been delivered are in the cursor."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        server.requests.clear()
        account = deliver(run_dir, server)

        assert account.complete
        assert not [each for each in server.operations() if "logFloats" in each]
        assert ("POST", "experiments") not in [each[:2] for each in server.requests]

    def test_a_run_is_found_again_when_its_cursor_was_lost(self, server, tmp_path):
        """And has every point once."""
        run_dir = write_attempt(tmp_path / "run", points(5))
        deliver(run_dir, server)
        (run_dir / "cursors" / "neptune.json").unlink()
        deliver(run_dir, server)

        assert len(server.runs) == 1
        assert server.run.series(LOSS) == expected(5)

    def test_a_resumed_run_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out and counted, for each series by itself."""
        run_dir = write_attempt(tmp_path / "run", [*points(10), *points(3, "rare")], outcome=None)
        deliver(run_dir, server)
        server.faults["attributes/operations"].append("lose")
        again = [
            MetricsLogged(step=n, metrics={"loss": -1.0 if n < 10 else float(n), "rare": float(n)})
            for n in range(2, 14)
        ]
        write_attempt(run_dir, again, attempt=2, from_step=1)
        deliver(run_dir, server, SmallBatches)

        assert server.run.series(LOSS) == expected(14)
        assert server.run.series("finetuning/train/rare") == expected(14)
        assert server.run.attributes.values["hotloop/attempt"] == 2
        ((reason, count),) = dropped(run_dir).items()
        assert "the first value stays" in reason
        assert count == 8 + 1

    def test_several_runs_under_one_custom_id(self, server, tmp_path):
        """What the second one logs behind the first is there, and the rest is counted."""
        first = write_attempt(tmp_path / "first", points(5))
        second = write_attempt(tmp_path / "second", points(8))
        deliver(first, server, custom_run_id="shared")
        deliver(second, server, custom_run_id="shared")

        assert server.run.series(LOSS) == expected(8)
        assert dropped(second) == {"the series on the server was further already": 5}


class TestRequests:
    """What a server is asked at once, and how values are written."""

    def test_limits(self, server, tmp_path):
        """At most 1000 operations and points in a request, also of one record."""
        wide = MetricsLogged(step=1, metrics={f"m{n}": 1.0 for n in range(2500)})
        run_dir = write_attempt(tmp_path / "run", [wide, *points(1500, first=2)])
        server.faults["attributes/operations"].extend([None, "lose"])
        account = deliver(run_dir, server)

        sizes = [
            sum(len(each.get("logFloats", {}).get("entries", [None])) for each in body)
            for body in server.calls("attributes/operations")
        ]
        assert max(sizes) == 1000
        assert account.complete
        assert server.run.series(LOSS) == expected(1500, 2)
        assert all(server.run.series(f"finetuning/train/m{n}") == [(1, 1.0)] for n in range(2500))

    def test_times_are_those_of_the_events_and_never_go_back(self, server, tmp_path):
        """A clock that was set back does not cost the points."""
        events = [
            MetricsLogged(time=1_700_000_000.25, step=1, metrics={"loss": 1.0}),
            MetricsLogged(time=1_600_000_000.0, step=2, metrics={"loss": 2.0}),
            MetricsLogged(time=1_700_000_001.0, step=3, metrics={"loss": 3.0}),
        ]
        deliver(write_attempt(tmp_path / "run", events), server)

        times = [time for _, _, time in server.run.attributes.series[LOSS]]
        assert times == [1_700_000_000_250, 1_700_000_000_250, 1_700_000_001_000]

    def test_a_step_that_goes_back_is_counted(self, server, tmp_path):
        """The server would refuse it; the others arrive."""
        metrics = [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in (1, 3, 2, 3, 4)]
        run_dir = write_attempt(tmp_path / "run", metrics)
        deliver(run_dir, server)

        assert server.run.series(LOSS) == [(1, 1.0), (3, 3.0), (4, 4.0)]
        ((reason, count),) = dropped(run_dir).items()
        assert "not after its series' last one" in reason
        assert count == 2

    def test_what_is_no_number_for_neptune(self, server, tmp_path):
        """NaN and infinities are texts beside the series, or dropped and counted."""
        values = (1.0, math.nan, math.inf, -math.inf, -0.0)
        metrics = [MetricsLogged(step=n, metrics={"loss": v}) for n, v in enumerate(values)]
        deliver(write_attempt(tmp_path / "texts", metrics), server)
        assert server.run.series(LOSS) == [(0, 1.0), (4, 0.0)]
        assert server.run.series(f"{LOSS}_nonfinite") == [
            (1, "NaN"),
            (2, "Infinity"),
            (3, "-Infinity"),
        ]

        run_dir = write_attempt(tmp_path / "dropped", metrics)
        deliver(run_dir, server, nonfinite="drop")
        assert dropped(run_dir) == {"NaN or infinite, which Neptune cannot store": 3}

    def test_minfx_takes_every_number(self, tmp_path):
        """As its client writes them, with the workspace's name and a state at the end."""
        values = (math.nan, math.inf, -math.inf, -0.0)
        metrics = [MetricsLogged(step=n, metrics={"loss": v}) for n, v in enumerate(values)]
        with StandIn(minfx=True) as server:
            deliver(write_attempt(tmp_path / "run", metrics), server, dialect="minfx")

        shown = [value for _, value in server.run.series(LOSS)]
        assert shown == ["nan", "inf", "-inf", "-0.0"]
        assert server.run.attributes.values["sys/state"] == "idle"

    def test_parameters(self, server, tmp_path):
        """Nested ones are paths; integers of more than 32 bits are floats; None is a text."""
        config = {
            "lr": 0.1,
            "big": 2**40,
            "model": {"layers": 2, "drop": {"rate": 0.5}, "empty": {}},
            "none": None,
            "flag": True,
            "list": [1, "a"],
            "text": "x" * 17_000,
        }
        run_dir = write_attempt(
            tmp_path / "run", [ParametersLogged(parameters={"lr": 0.2})], config=config
        )
        deliver(run_dir, server)

        values = server.run.attributes.values
        found = {
            path.removeprefix("finetuning/trainer_parameters/"): value
            for path, value in values.items()
            if path.startswith("finetuning/trainer_parameters/")
        }
        assert found.pop("text") == "x" * 16_383 + "\u2026"
        assert found == {
            "lr": 0.2,
            "big": float(2**40),
            "model/layers": 2,
            "model/drop/rate": 0.5,
            "model/empty": "{}",
            "none": "None",
            "flag": True,
            "list": "[1, 'a']",
        }
        assert dropped(run_dir) == {"a text that was cut at 16,384 characters": 1}

    def test_parameters_may_be_left_out(self, server, tmp_path):
        """`log_parameters`, as upstream's callback has it."""
        deliver(write_attempt(tmp_path / "run", [], config={"lr": 1}), server, log_parameters=False)

        assert not [path for path in server.run.state() if "trainer_parameters" in path]

    def test_a_value_of_another_type_keeps_no_other_back(self, server, tmp_path, caplog):
        """A field's type is fixed by its first value; what is refused is counted and said once."""
        events = [
            *(ParametersLogged(parameters={"lr": value, "n": 1}) for value in ("no", "none")),
            *points(3),
        ]
        run_dir = write_attempt(tmp_path / "run", events, config={"lr": 0.1})
        account = deliver(run_dir, server, SmallBatches)

        assert account.complete
        assert server.run.attributes.values["finetuning/trainer_parameters/lr"] == 0.1
        assert server.run.attributes.values["finetuning/trainer_parameters/n"] == 1
        assert server.run.series(LOSS) == expected(3)
        assert sum(dropped(run_dir).values()) >= 1
        assert len([each for each in caplog.messages if "refused a value" in each]) == 1

    def test_summary_values_may_become_fractions(self, server, tmp_path):
        """A whole number is not the reason for which a later one is refused."""
        events = [SummaryLogged(values={"best": {"loss": value}}) for value in (1, 0.5)]
        run_dir = write_attempt(tmp_path / "run", [*events, SummaryLogged(values={"huge": 10**30})])
        deliver(run_dir, server, SmallBatches)

        assert server.run.attributes.values["finetuning/summary/best/loss"] == 0.5
        assert server.run.attributes.values["finetuning/summary/huge"] == 1e30
        assert dropped(run_dir) == {}

    def test_names_are_those_of_transformers_callback(self, server, tmp_path):
        """eval/, test/, train/; the epoch is a value; an evaluation that was logged is no twin."""
        events = [
            MetricsLogged(step=4, metrics={"eval_loss": 0.5, "test_f1": 0.1, "epoch": 1.5}),
            Evaluated(step=4, metrics={"eval_loss": 0.5, "f1": 0.25, "epoch": 1.5}, dataset="dev"),
        ]
        deliver(write_attempt(tmp_path / "run", events), server)

        assert server.run.series("finetuning/eval/loss") == [(4, 0.5)]
        assert server.run.series("finetuning/eval/dev/f1") == [(4, 0.25)]
        assert server.run.series("finetuning/test/f1") == [(4, 0.1)]
        assert server.run.attributes.values["finetuning/train/epoch"] == 1.5
        assert not [path for path in server.run.state() if path.startswith("finetuning/eval/epoch")]

    def test_what_other_ranks_log(self, server, tmp_path):
        """Is under their name, so that two of the same step do not refuse each other."""

        class OfAllRanks(NeptuneSink):
            ranks = "all"

        run_dir = write_attempt(tmp_path / "run", points(3))
        bus = Bus(run_dir / JOURNAL_FOLDER, rank=1)
        for event in [*points(3), SystemMetricsLogged(metrics={"system/cpu": 50.0})]:
            bus.publish(event)
        assert bus.close(10).written
        deliver(run_dir, server, OfAllRanks)

        assert server.run.series(LOSS) == expected(3)
        assert server.run.series("finetuning/rank1/train/loss") == expected(3)
        assert server.run.series("monitoring/rank1/cpu") == [(0, 50.0)]

    def test_words(self, server, tmp_path):
        """Texts, alerts, messages and console lines are series; long ones are divided."""
        events = [
            TextLogged(step=1, key="sample", text="one"),
            TextLogged(step=1, key="sample", text="a" * 1000 + "b"),
            AlertRaised(step=2, title="late", text="rank 3", level="error"),
            MessageLogged(text="almost done"),
            ConsoleLineLogged(text="first"),
            ConsoleLineLogged(text="second"),
            ConsoleLineLogged(text="oh", stream="stderr"),
            MetricDefined(name="loss", unit="nats", goal="minimize"),
        ]
        run_dir = write_attempt(tmp_path / "run", events)
        server.faults["attributes/operations"].append("lose")
        deliver(run_dir, server, monitoring_namespace="machine")

        run = server.run
        texts = run.series("finetuning/texts/sample")
        assert texts == [(1, "one"), (1.001, "a" * 1000), (1.002, "b")]
        assert run.series("finetuning/alerts") == [(2, "error: late\n\nrank 3")]
        assert [text for _, text in run.series("finetuning/messages")] == ["almost done"]
        assert run.series("machine/stdout") == [(0, "first"), (1, "second")]
        assert run.series("machine/stderr") == [(0, "oh")]
        values = run.attributes.values
        assert values["finetuning/metric_definitions/loss/unit"] == "nats"


class TestRun:
    """What the run looks like there."""

    def test_how_it_is_described(self, server, tmp_path):
        """Its name, tags, groups, and where it comes from."""
        deliver(
            write_attempt(tmp_path / "mine", []),
            server,
            description="why",
            tags=["a", "b"],
            group_tags=["sweep"],
        )

        values = server.run.attributes.values
        assert values["sys/name"] == "mine"
        assert values["sys/description"] == "why"
        assert values["sys/tags"] == ["a", "b"]
        assert values["sys/group_tags"] == ["sweep"]
        assert values["sys/hostname"] == "here"
        assert values["source_code/entrypoint"] == "train.py"
        assert values["hotloop/git_commit"] == "0" * 40

    @pytest.mark.parametrize(
        ("outcome", "failed"),
        [
            ("finished", False),
            ("failed", True),
            ("stopped", False),
            ("preempted", False),
            (None, True),
        ],
    )
    def test_how_it_ended(self, server, tmp_path, outcome, failed):
        """A run that nobody ended crashed; a resumed one is no longer marked as failed."""
        run_dir = write_attempt(tmp_path / "run", [], outcome=outcome, error="ValueError: no")
        deliver(run_dir, server)
        assert server.run.failed is failed
        assert server.run.attributes.values["hotloop/outcome"] == (outcome or "crashed")
        assert ("hotloop/error" in server.run.attributes.values) is (outcome is not None)

        write_attempt(run_dir, points(1), attempt=2, from_step=0)
        deliver(run_dir, server)
        assert server.run.failed is False
        assert len(server.runs) == 1

    def test_one_that_was_there_goes_on(self, server, tmp_path):
        """`with_id`; it keeps its name and description, and has the page that is told."""
        deliver(write_attempt(tmp_path / "theirs", points(3)), server, description="old")
        account = deliver(
            write_attempt(tmp_path / "ours", points(4, first=3)), server, with_id="DEM-1"
        )

        assert len(server.runs) == 1
        assert server.run.series(LOSS) == expected(7)
        assert server.run.attributes.values["sys/name"] == "theirs"
        assert server.run.attributes.values["sys/description"] == "old"
        assert account.url == f"{server.url}/team/demo/e/DEM-1"

    def test_one_in_the_trash_is_not_written_to(self, server, tmp_path):
        """Somebody threw it away on purpose; what to do is said."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        server.run.trashed = True
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        account = deliver(run_dir, server)

        assert account.status == "suspended"
        assert "is in the trash; restore it" in account.reason


def checkpoint(folder, step):
    """A checkpoint on disk, as a trainer announces it: saved, and as an artifact."""
    path = folder / f"checkpoint-{step}"
    (path / "sub").mkdir(parents=True)
    (path / "weights").write_bytes(b"w" * step)
    (path / "sub" / "state").touch()
    return path


def saved(path, *aliases):
    step = int(path.name.rpartition("-")[2])
    return [
        CheckpointSaved(step=step, path=str(path)),
        ArtifactReady(
            step=step, path=str(path), kind="checkpoint", name=path.name, aliases=aliases
        ),
    ]


class TestFiles:
    """What is uploaded."""

    @pytest.fixture
    def events(self, tmp_path):
        one, two, three = (checkpoint(tmp_path, step) for step in (1, 2, 3))
        return [*saved(one, "best"), *saved(two, "best"), *saved(three)]

    @pytest.mark.parametrize(
        ("policy", "attribute", "steps"),
        [
            ("none", "", ()),
            ("same", "finetuning/checkpoints", (1, 2, 3)),
            ("last", "finetuning/checkpoints/last", (3,)),
            ("best", "finetuning/checkpoints/best", (2,)),
        ],
    )
    def test_which_checkpoints(self, *, server, tmp_path, events, policy, attribute, steps):
        """As Transformers' callback has it: the one before is deleted once the next is there."""
        run_dir = write_attempt(tmp_path / "run", events)
        account = deliver(run_dir, server, log_checkpoints=policy)

        assert account.complete
        stored = {
            f"checkpoint-{step}/{name}": content
            for step in steps
            for name, content in (("weights", b"w" * step), ("sub/state", b""))
        }
        assert server.run.attributes.files == ({attribute: stored} if steps else {})

    def test_checkpoints_of_one_name(self, server, tmp_path):
        """A folder that is written anew at a later step is another checkpoint."""
        path = checkpoint(tmp_path, 1)
        events = [CheckpointSaved(step=step, path=str(path)) for step in (1, 1, 2)]
        deliver(write_attempt(tmp_path / "run", events), server, log_checkpoints="last")

        assert len(server.calls("storage/fileset/upload")) == 2 * 2
        assert len(server.run.files("finetuning/checkpoints/last")) == 2

    def test_a_retry_goes_on_behind_the_files_that_are_there(self, server, tmp_path, events):
        """Each file is sent once, but for the one whose answer was missing."""
        server.faults["storage/fileset/upload"].extend([None, Refused(500), None])
        server.faults["attributes/operations"].extend([None, Refused(503)])
        run_dir = write_attempt(tmp_path / "run", events)
        account = deliver(run_dir, server, log_checkpoints="last")

        assert account.complete
        assert len(server.calls("storage/fileset/upload")) == 6 + 1
        assert server.run.files("finetuning/checkpoints/last").keys() == {
            "checkpoint-3/weights",
            "checkpoint-3/sub/state",
        }

    def test_large_files_come_in_parts_and_go_on_where_they_broke_off(self, server, tmp_path):
        """Of 12 MiB, a part whose answer is missing is sent again, and none before it."""
        content = bytes(range(256)) * (12 << 12)
        (tmp_path / "model.bin").write_bytes(content)
        (tmp_path / "empty").touch()
        server.faults["storage/fileset/upload/part"].extend([None, "lose", Refused(503)])
        server.faults["storage/fileset/upload/finish"].append(Refused(503))
        run_dir = write_attempt(
            tmp_path / "run",
            [
                ArtifactReady(path=str(tmp_path / "model.bin"), kind="model", name="model.bin"),
                ArtifactReady(path=str(tmp_path / "empty"), kind="data", name="empty"),
            ],
        )
        account = deliver(run_dir, server, log_artifacts=True)

        assert account.complete
        assert server.run.files("finetuning/artifacts/model.bin") == {"model.bin": content}
        assert len(server.calls("storage/fileset/upload/start")) == 1
        assert len(server.calls("storage/fileset/upload/part")) == 3 + 2
        assert server.run.files("finetuning/artifacts/empty") == {"empty": b""}

    def test_what_is_being_uploaded_is_not_rotated_away(self, server, tmp_path, events):
        """A folder is held from its first file to its last, through a failed try."""
        folders = [Path(each.path) for each in events if isinstance(each, CheckpointSaved)]
        server.faults["storage/fileset/upload"].extend([None, Refused(500), None])
        held = []

        def note(call):
            if call == "storage/fileset/upload":
                held.append([path.name for path in folders if _is_held(path)])

        server.before = note
        deliver(write_attempt(tmp_path / "run", events), server, log_checkpoints="same")

        assert held == [["checkpoint-1"]] * 3 + [["checkpoint-2"]] * 2 + [["checkpoint-3"]] * 2
        assert not any(_is_held(path) for path in folders)

    def test_images_are_a_series(self, server, tmp_path):
        """With their captions; several of a step stand close together, and none is there twice."""
        (tmp_path / "cat.png").write_bytes(b"png")
        events = [
            MediaLogged(
                step=step,
                key="sample",
                path=str(tmp_path / "cat.png"),
                media_type="image/png",
                caption=caption,
            )
            for step, caption in ((1, None), (1, "a cat"), (2, None))
        ]
        server.faults["attributes/operations"].extend([None, "lose", None, "lose"])
        run_dir = write_attempt(tmp_path / "run", events)
        deliver(run_dir, server)

        data = base64.b64encode(b"png").decode()
        assert server.run.series("finetuning/media/sample") == [
            (step, {"data": data, "name": "cat.png", "description": caption})
            for step, caption in ((1, None), (1.001, "a cat"), (2, None))
        ]
        assert dropped(run_dir) == {}

    def test_an_image_that_is_gone_is_counted(self, server, tmp_path):
        """And holds nothing up."""
        gone = MediaLogged(
            step=1, key="sample", path=str(tmp_path / "gone"), media_type="image/png"
        )
        run_dir = write_attempt(tmp_path / "run", [gone, *points(3)])
        account = deliver(run_dir, server)

        assert account.complete
        assert server.run.series(LOSS) == expected(3)
        assert dropped(run_dir) == {"a file that is gone, or that the server refused": 1}

    def test_sounds_have_places_of_their_own(self, server, tmp_path):
        """The same at each try."""
        (tmp_path / "sound.wav").write_bytes(b"wav")
        events = [
            MediaLogged(
                step=1,
                key="sample",
                path=str(tmp_path / "sound.wav"),
                media_type="audio/wav",
                caption=caption,
            )
            for caption in (None, "a cat")
        ]
        server.faults["storage/file/upload"].append("lose")
        server.faults["attributes/operations"].extend([None, "lose"])
        deliver(write_attempt(tmp_path / "run", events), server)

        assert list(server.run.attributes.files.values()) == [b"wav", b"wav"]
        captions = [path for path, value in server.run.state().items() if value == "a cat"]
        assert [path.removesuffix("_caption") in server.run.state() for path in captions] == [True]

    def test_what_cannot_be_stored_is_counted_and_holds_nothing_up(self, server, tmp_path, caplog):
        """A file that is gone, and one that the server refuses for good."""
        (tmp_path / "refused").write_text("x")
        server.faults["storage/fileset/upload"].append(Refused(413))
        run_dir = write_attempt(
            tmp_path / "run",
            [
                ArtifactReady(path=str(tmp_path / "gone"), kind="data", name="gone"),
                ArtifactReady(path=str(tmp_path / "refused"), kind="data", name="refused"),
                *points(3),
            ],
        )
        account = deliver(run_dir, server, log_artifacts=True)

        assert account.complete
        assert account.dead == 0
        assert server.run.series(LOSS) == expected(3)
        assert dropped(run_dir) == {"a file that is gone, or that the server refused": 2}
        assert [each for each in caplog.messages if "is gone, so it was not uploaded" in each]


def _is_held(folder):
    with unheld(folder) as free:
        return not free


class TestAccess:
    """What lets us in is exchanged before it ends, and when the server knows it no longer."""

    def test_tokens_that_end(self, tmp_path):
        """They are exchanged before each request that they would not outlive."""
        with StandIn(lifetime=25.0) as server:  # less than is kept in reserve
            account = deliver(write_attempt(tmp_path / "run", points(30)), server, SmallBatches)

            assert account.complete
            assert len(server.calls("authorization/oauth-token")) > 3
            assert server.run.series(LOSS) == expected(30)

    @pytest.mark.parametrize("call", ["attributes/operations", "storage/fileset/upload"])
    def test_tokens_that_are_forgotten(self, server, tmp_path, call):
        """A request that is refused comes once more, with another token."""
        (tmp_path / "data").write_text("x")
        server.faults[call].append(Refused(401, "AUTHORIZATION_TOKEN_EXPIRED"))
        data = ArtifactReady(path=str(tmp_path / "data"), kind="data", name="data")
        run_dir = write_attempt(tmp_path / "run", [data, *points(3)])
        account = deliver(run_dir, server, log_artifacts=True)

        assert account.complete
        assert server.run.series(LOSS) == expected(3)
        assert server.run.files("finetuning/artifacts/data") == {"data": b"x"}
        assert len(server.calls("authorization/oauth-token")) == 2

    @pytest.mark.parametrize("told", [[], {}, {"api_address": "ftp://here"}, {"api_address": 1}])
    def test_what_is_no_api_token(self, told):
        """It must hold an address; another one than that of the pages may be for requests."""
        with pytest.raises(ValueError, match="is no API token"):
            ApiToken.parsed(base64.b64encode(json.dumps(told).encode()).decode())
        both = {"api_address": "https://pages.example", "api_url": "https://api.example/"}
        found = ApiToken.parsed(base64.b64encode(json.dumps(both).encode()).decode())
        assert (found.api, found.pages) == ("https://api.example", "https://pages.example")

    def test_a_project_of_an_earlier_version(self, server, tmp_path):
        """Cannot be written to over this interface."""
        server.project["version"] = 1
        account = deliver(write_attempt(tmp_path / "run", []), server)

        assert account.status == "suspended"
        assert "migrate it to version 2" in account.reason

    def test_a_wrong_token(self, server, tmp_path):
        """Nothing is lost, and what to check is said."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        wrong = api_token(server.url, key="another one")
        account = deliver(run_dir, server, timeout=3, api_token=wrong)

        assert account.status == "suspended"
        assert "check NEPTUNE_API_TOKEN" in account.reason
        assert account.pending == 5
        assert deliver(run_dir, server).complete


class TestRefusals:
    """What an answer means."""

    @pytest.mark.parametrize(
        ("status", "text", "kind"),
        [
            (200, "[]", None),
            (401, '{"errorType": "INVALID_API_TOKEN"}', "AccessRefused"),
            (400, '{"errorType": "AUTHORIZATION_TOKEN_EXPIRED"}', "AccessRefused"),
            (402, "", "Misconfigured"),
            (404, '{"errorType":"EXPERIMENT_NOT_FOUND"}', "Misconfigured"),
            (409, "conflict", "Rejected"),
            (422, '{"errorType": "PROJECT_LIMITS_EXCEEDED"}', "Misconfigured"),
            (422, '{"errorType": "WORKSPACE_IN_READ_ONLY_MODE"}', "Misconfigured"),
            (422, "no sense", "Rejected"),
            (429, "", "Unavailable"),
            (408, "", "Unavailable"),
            (503, "", "Unavailable"),
        ],
    )
    def test_what_an_answer_means(self, status, text, kind):
        """Words of the server come before its status."""
        sink = NeptuneSink(api_token=TOKEN, project="team/demo")
        error = sink.classify(Response(status, {}, text), now=0.0)

        assert (error and type(error).__name__) == (kind and f"{kind}Error")

    def test_a_full_project_loses_nothing(self, server, tmp_path):
        """Its client's thread dies of this; here everything waits until there is room."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        server.faults["attributes/operations"].append(Refused(422, "PROJECT_LIMITS_EXCEEDED"))
        account = deliver(run_dir, server)

        assert account.status == "suspended"
        assert "make room in the project" in account.reason
        assert deliver(run_dir, server).complete
        assert server.run.series(LOSS) == expected(3)

    def test_an_operation_that_makes_no_sense_to_the_server(self, server, tmp_path):
        """The guilty event becomes a dead letter, and the others of its batch arrive."""
        server.odd = "finetuning/train/odd"
        events = [*points(4), MetricsLogged(step=4, metrics={"odd": 1.0}), *points(4, first=5)]
        account = deliver(write_attempt(tmp_path / "run", events), server)

        assert account.complete
        assert account.dead == 1
        assert [step for step, _ in server.run.series(LOSS)] == [0, 1, 2, 3, 5, 6, 7, 8]

    @pytest.mark.parametrize("content", [b"<!doctype html>", b"{}", b'"x"'])
    def test_something_in_between_has_answered(self, server, tmp_path, content):
        """That is tried again, as no server's answer."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        server.faults["projects/get"].append(Refused(200, body=content))
        server.faults["attributes/operations"].append(Refused(200, body=content))
        account = deliver(run_dir, server)

        assert account.complete
        assert server.run.series(LOSS) == expected(3)


class TestSettings:
    """Arguments beat the environment."""

    def test_what_is_missing_is_said(self, environment):
        """With the variables that set it, and that the hosted service has ended."""
        with pytest.raises(NotConfiguredError) as caught:
            NeptuneSink()
        for words in ("NEPTUNE_API_TOKEN", "NEPTUNE_PROJECT", "the hosted service has ended"):
            assert words in str(caught.value)
        environment.setenv("NEPTUNE_API_TOKEN", "no token")
        environment.setenv("NEPTUNE_PROJECT", "demo")
        environment.setenv("NEPTUNE_CUSTOM_RUN_ID", "x" * 37)
        with pytest.raises(NotConfiguredError) as caught:
            NeptuneSink()
        for words in ("is no API token", "team/demo", "37 characters"):
            assert words in str(caught.value)
        assert "no token" not in str(caught.value)

    def test_variables_of_neptunes_client(self, environment):
        """And an argument of each, which wins."""
        environment.setenv("NEPTUNE_API_TOKEN", TOKEN)
        environment.setenv("NEPTUNE_PROJECT", "env/demo")
        environment.setenv("NEPTUNE_CUSTOM_RUN_ID", "mine")
        environment.setenv("NEPTUNE_MONITORING_NAMESPACE", "machine/")
        environment.setenv("NEPTUNE_ALLOW_SELF_SIGNED_CERTIFICATE", "TRUE")
        environment.setenv("NEPTUNE_TAGS", "a, b,")
        found = NeptuneSink().settings
        assert found.project == "env/demo"
        assert found.custom_run_id == "mine"
        assert found.monitoring_namespace == "machine"
        assert found.verify is False
        assert found.tags == ("a", "b")

        given = NeptuneSink(project="team/demo", verify=True, log_checkpoints=None).settings
        assert given.project == "team/demo"
        assert given.verify is True
        assert given.log_checkpoints == "none"

    @pytest.mark.parametrize("mode", ["debug", "disabled"])
    def test_modes_that_mean_no_sink(self, environment, mode):
        """`"all"` leaves it out; who asks for it by name is told why it is off."""
        environment.setenv("NEPTUNE_MODE", mode)
        with pytest.raises(NotConfiguredError, match="turns this sink off"):
            NeptuneSink(api_token=TOKEN, project="team/demo")

    @pytest.mark.parametrize("mode", ["sync", "read-only"])
    def test_modes_that_cannot_be(self, environment, mode):
        """They would hold up the training, or write nothing."""
        environment.setenv("NEPTUNE_MODE", mode)
        with pytest.raises(NotConfiguredError, match="make it async or offline"):
            NeptuneSink(api_token=TOKEN, project="team/demo")

    def test_offline(self, server, tmp_path, environment):
        """Nothing is sent before somebody synchronises without it, not even by a check."""
        run_dir = write_attempt(tmp_path / "run", points(3))
        environment.setenv("NEPTUNE_MODE", "offline")
        account = deliver(run_dir, server, timeout=1)
        with pytest.raises(MisconfiguredError, match="NEPTUNE_MODE is offline"):
            anyio.run(made(server).check)
        assert account.pending == 5
        assert server.requests == []

        environment.delenv("NEPTUNE_MODE")
        assert deliver(run_dir, server).complete
        assert server.run.series(LOSS) == expected(3)

    def test_another_process_gets_the_same(self, environment):
        """Settings are plain data, secrets included, and shown to nobody."""
        environment.setenv("NEPTUNE_ALLOW_SELF_SIGNED_CERTIFICATE", "1")
        sink = NeptuneSink(api_token=TOKEN, project="team/demo", tags=["a"], log_checkpoints="best")
        environment.delenv("NEPTUNE_ALLOW_SELF_SIGNED_CERTIFICATE")
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings
        assert TOKEN not in repr(sink.settings)

    @pytest.mark.anyio
    async def test_a_check_makes_nothing(self, server):
        """It exchanges the token and looks for the project."""
        sink = made(server)
        try:
            assert await sink.check() == "the server lets us in; the project team/demo is there"
        finally:
            await sink.release()
        assert server.runs == {}


class TestWatch:
    """Signs of life, and the stop button."""

    @pytest.mark.parametrize(
        ("kind", "where"),
        [
            ("neptune/stop", "thread"),
            ("neptune/abort", "thread"),
            pytest.param("neptune/stop", "process", marks=pytest.mark.slow),
        ],
    )
    def test_the_stop_button(self, *, server, tmp_path, kind, where):
        """It stops the training at its next safe point, and the journal says who asked."""
        with runtime.Run(name="stopped", dir=tmp_path, sinks=[made(server)], deliver=where) as run:
            run.log({"loss": 1.0}, step=1)
            eventually(lambda: server.signals.opened)
            server.signals.ping()
            server.signals.send("neptune/other")
            server.signals.send_frame(0x81, b"no JSON")
            server.signals.send(kind)
            eventually(lambda: run.safe_point(1).stop)

        assert server.signals.opened == [server.run.id]
        assert server.pings[server.run.id] == 1
        assert server.run.attributes.values["hotloop/outcome"] == "stopped"
        assert server.run.failed is False
        ((_, applied),) = [
            (record.seq, record.event)
            for record in JournalReader(run.dir).records(types=(DecisionApplied,))
        ]
        assert applied.by == "neptune"
        assert applied.reason == f"{kind.removeprefix('neptune/')} was asked for in Neptune"

    def test_what_breaks_off_begins_again(self, server, tmp_path):
        """The web socket and the signs of life, whatever came of the one before."""

        class Quick(NeptuneSink):
            """Looks often."""

            beat = 0.01

        server.faults["attributes/ping"].extend([Refused(503), "lose"])
        with runtime.Run(name="again", dir=tmp_path, sinks=[made(server, Quick)]) as run:
            eventually(lambda: server.signals.opened)
            server.signals.drop()
            eventually(lambda: len(server.signals.opened) == 2)
            server.signals.send("neptune/stop")
            eventually(lambda: run.safe_point(1).stop)
            eventually(lambda: server.pings[server.run.id] > 2)

    def test_without_the_extra(self, server, tmp_path, environment, caplog):
        """Everything else works, and what is missing is said."""
        environment.delitem(sys.modules, "sinks._neptune_signal", raising=False)
        environment.setitem(sys.modules, "wsproto", None)
        with (
            caplog.at_level("INFO"),
            runtime.Run(name="deaf", dir=tmp_path, sinks=[made(server)]) as run,
        ):
            run.log({"loss": 1.0}, step=1)
            eventually(server.pings.total)

        assert server.run.series(LOSS) == [(1, 1.0)]
        assert server.signals.opened == []
        assert any("pip install hotloop[neptune]" in each for each in caplog.messages)

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("frame", "words"),
        [
            (None, "nobody is at the other end"),
            ((0x88, b""), "the web socket was closed"),
            ((0x83, b"odd"), "the web socket was closed"),
        ],
    )
    async def test_a_connection_that_breaks_off(self, server, frame, words):
        """Is told as such, so that somebody listens again."""
        sink = made(server)
        heard = []
        url = f"{server.url}/api/notifications/v1/runs/a/b/signal"
        access = f"Bearer {server.issue()}"

        def drop():
            eventually(lambda: server.signals.opened)
            server.signals.send("Neptune/Stop")
            if frame is not None:
                server.signals.send_frame(*frame)
            server.signals.drop()

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, drop)
            with pytest.raises(UnavailableError, match=words):
                await listen(sink.settings, url, {"authorization": access}, heard.append)
        assert heard == ["neptune/stop"]

    @pytest.mark.anyio
    async def test_silence(self, server):
        """The other side is asked for a sign of life, and left when it gives none."""
        url = f"{server.url}/api/notifications/v1/runs/a/b/signal"
        headers = {"authorization": f"Bearer {server.issue()}"}
        with pytest.raises(UnavailableError, match="nobody is at the other end"):
            await listen(made(server).settings, url, headers, print, quiet=0.05)

    @pytest.mark.anyio
    async def test_a_server_without_it(self, server):
        """One that lets nobody in is no reason to raise anything else."""
        sink = made(server)
        url = f"{server.url}/api/notifications/v1/runs/a/b/signal"
        with pytest.raises(MisconfiguredError, match="HTTP 401 where a web socket"):
            await listen(sink.settings, url, {"authorization": "Bearer x"}, print)
        with pytest.raises(MisconfiguredError, match="HTTP 401 where a web socket"):
            await listen(sink.settings, f"{server.url}/elsewhere", {}, print)
