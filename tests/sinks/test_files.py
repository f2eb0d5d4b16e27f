"""Files that hold exactly what was acknowledged: CSV, JSON lines and event files alike."""

import errno
import json
import math
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bus import (
    BatchLimits,
    BusOptions,
    Evaluated,
    MetricsLogged,
    SystemMetricsLogged,
    TextLogged,
    list_cursors,
    sink_context,
    sync_run,
)
from runtime import Run
from runtime.cli._app import app
from sinks._files import AppendedFile, append
from sinks.csv import CsvSink
from sinks.jsonl import JsonlSink
from sinks.tensorboard import TensorBoardSink
from tests.sinks.local_sinks import (
    NOON,
    answer,
    metrics,
    mount_namespace,
    read_csv,
    read_jsonl,
    start_child,
    steps_in,
    tensorboard_python,
    write_run,
)
from tests.waiting import HANG, eventually

SINKS = ("csv", "jsonl", "tensorboard")


def needs(name: str) -> None:
    """Skip where what reads a sink's files is missing."""
    if name == "tensorboard":
        tensorboard_python()


class TestCsv:
    def test_one_row_for_each_event_with_metrics(self, tmp_path):
        """The columns of `hotloop export`, the metrics in order of appearance, empty cells."""
        run_dir = write_run(
            tmp_path,
            [
                MetricsLogged(time=NOON, step=1, metrics={"loss": 2.5, "step": 7.0}),
                TextLogged(key="k", text="no row"),
                Evaluated(time=NOON, step=1, metrics={"accuracy": 0.5}, dataset='a "b", c'),
                SystemMetricsLogged(time=NOON, metrics={"gpu": 1e-7}),
            ],
        )
        (account,) = sync_run(run_dir, [CsvSink()])

        assert account.complete
        assert account.url == (run_dir / "metrics.csv").as_uri()
        common = {"attempt": "1", "rank": "0", "time": "1790000000.0"}
        empty = dict.fromkeys(("dataset", "loss", "metric:step", "accuracy", "gpu"), "")
        assert read_csv(run_dir / "metrics.csv") == [
            {**common, **empty, "step": "1", "type": "metrics_logged"}
            | {"loss": "2.5", "metric:step": "7.0"},
            {**common, **empty, "step": "1", "type": "evaluated"}
            | {"accuracy": "0.5", "dataset": 'a "b", c'},
            {**common, **empty, "step": "", "type": "system_metrics_logged", "gpu": "1e-07"},
        ]

    def test_numbers_beyond_numbers_and_odd_names(self, tmp_path):
        """NaN and infinities are spelled so; any name survives."""
        odd = ["a,b", 'q"', "new\nline", "carriage\rreturn", " space ", "ü", "=1+1", ""]
        values = [math.nan, math.inf, -math.inf, 1e-300, 1.0, -0.0, 1e22, 0.1]
        run_dir = write_run(tmp_path, [MetricsLogged(metrics=dict(zip(odd, values, strict=True)))])
        sync_run(run_dir, [CsvSink()])

        (row,) = read_csv(run_dir / "metrics.csv")
        assert [row[name] for name in odd[:3]] == ["NaN", "Infinity", "-Infinity"]
        assert [float(row[name]) for name in odd[3:]] == values[3:]

    def test_the_table_grows_wider(self, tmp_path):
        """Whenever a metric appears first, every row has a cell for it, and no other file stays."""

        class Small(CsvSink):
            limits = BatchLimits(events=3)

        events = [MetricsLogged(step=n, metrics={"n": n, f"m{n // 5}": n}) for n in range(40)]
        run_dir = write_run(tmp_path, events)
        sync_run(run_dir, [Small()])

        rows = read_csv(run_dir / "metrics.csv")
        assert [int(row["step"]) for row in rows] == list(range(40))
        assert [row[f"m{n // 5}"] for n, row in enumerate(rows)] == [f"{n}.0" for n in range(40)]
        assert list(run_dir.glob(".metrics*")) in ([], [run_dir / ".metrics.csv.000008"])

    def test_what_a_resume_replaced_is_removed(self, tmp_path):
        """Also of ranks that wrote it; what has no step stays."""

        class OfAllRanks(CsvSink):
            ranks = "all"

        spare = SystemMetricsLogged(time=NOON, metrics={"gpu": 1.0})
        run_dir = write_run(tmp_path, [*metrics(range(10)), spare], outcome=None)
        write_run(tmp_path, metrics(range(10)), rank=1, outcome=None)
        sync_run(run_dir, [OfAllRanks()])
        assert len(read_csv(run_dir / "metrics.csv")) == 21
        write_run(tmp_path, metrics(range(5, 12), extra=1.0), attempt=2, from_step=4)
        sync_run(run_dir, [OfAllRanks()])

        rows = read_csv(run_dir / "metrics.csv")
        of = {
            (attempt, rank): [row["step"] for row in rows if (row["attempt"], row["rank"]) == key]
            for attempt, rank in ((1, 0), (1, 1), (2, 0))
            for key in [(str(attempt), str(rank))]
        }
        assert of[1, 0] == ["0", "1", "2", "3", "4", ""]
        assert of[1, 1] == ["0", "1", "2", "3", "4"]
        assert of[2, 0] == [str(n) for n in range(5, 12)]

    def test_a_name_that_no_reader_takes_is_a_dead_letter(self, tmp_path):
        """Python's csv refuses longer cells, for ever; the others arrive."""
        run_dir = write_run(tmp_path, [*metrics([1]), MetricsLogged(metrics={"x" * 20_000: 1.0})])
        (account,) = sync_run(run_dir, [CsvSink()])

        assert (account.delivered, account.dead) == (2, 1)
        assert steps_in(run_dir)["csv"] == [1]


class TestJsonl:
    def test_every_event_as_export_prints_it(self, tmp_path):
        """Place beside event, NaN as a string, strict JSON."""
        event = MetricsLogged(time=NOON, step=3, metrics={"a": math.nan, "b": 1.0})
        run_dir = write_run(tmp_path, [event])
        sync_run(run_dir, [JsonlSink()])

        lines = read_jsonl(run_dir / "events.jsonl")
        assert [line["event"]["type"] for line in lines] == [
            "run_started",
            "metrics_logged",
            "run_ended",
        ]
        assert lines[1] == {
            "attempt": 1,
            "rank": 0,
            "seq": 2,
            "event": {
                "type": "metrics_logged",
                "time": NOON,
                "step": 3,
                "metrics": {"a": "NaN", "b": 1.0},
            },
        }

    def test_rotation(self, tmp_path):
        """No file is larger than asked but for one line that is; all of them hold everything."""
        run_dir = write_run(tmp_path, [*metrics(range(300)), TextLogged(key="k", text="x" * 5000)])
        sync_run(run_dir, [JsonlSink(max_bytes=4000)])

        full = sorted(run_dir.glob("events.0*.jsonl"))
        lines = read_jsonl(*full, run_dir / "events.jsonl")
        assert [line["seq"] for line in lines] == list(range(1, 304))
        assert [each.name for each in full[:2]] == ["events.000001.jsonl", "events.000002.jsonl"]
        sizes = [each.stat().st_size for each in full]
        assert sum(size > 4000 for size in sizes) == 1
        assert len(full) > 5

    def test_old_files_are_removed(self, tmp_path):
        """Only so many full ones are kept, once what followed them is acknowledged."""

        class Small(JsonlSink):
            limits = BatchLimits(events=20)

        run_dir = write_run(tmp_path, metrics(range(400)))
        sync_run(run_dir, [Small(max_bytes=4000, keep=2)])
        write_run(tmp_path, [], attempt=2, from_step=400)
        sync_run(run_dir, [Small(max_bytes=4000, keep=2)])

        assert len(list(run_dir.glob("events.0*.jsonl"))) == 2

    def test_a_file_of_somebody_else_is_left_alone(self, tmp_path):
        """The name gets a number."""
        path = tmp_path / "mine.jsonl"
        path.write_text("precious")
        run_dir = write_run(tmp_path, metrics(range(3)))
        sync_run(run_dir, [JsonlSink(path=path)])
        sync_run(run_dir, [JsonlSink(path=path)])

        assert path.read_text() == "precious"
        assert len(read_jsonl(tmp_path / "mine-2.jsonl")) == 5
        assert not (tmp_path / "mine-3.jsonl").exists()

    def test_a_relative_path_is_where_the_program_was(self, tmp_path, monkeypatch):
        """Also if the process changes its folder before the first write."""
        run_dir = write_run(tmp_path, metrics(range(3)))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        sink = JsonlSink(path=Path("mine.jsonl"))
        sink.bind(sink_context(run_dir))
        monkeypatch.chdir(tmp_path / "elsewhere")
        sink.open_blocking(sink_context(run_dir), {})

        assert (tmp_path / "mine.jsonl").exists()

    def test_the_environment_names_the_file(self, tmp_path, monkeypatch):
        """Arguments beat it."""
        monkeypatch.setenv("HOTLOOP_JSONL_PATH", str(tmp_path / "env.jsonl"))
        run_dir = write_run(tmp_path, [])
        sync_run(run_dir, [JsonlSink()])
        assert (tmp_path / "env.jsonl").exists()
        sync_run(write_run(tmp_path / "other", []), [JsonlSink(path=tmp_path / "given.jsonl")])
        assert (tmp_path / "given.jsonl").exists()


def test_both_are_what_export_writes(tmp_path):
    """Byte for byte the table, object for object the lines."""
    odd = MetricsLogged(time=NOON, step=4, metrics={"a,b": math.nan, "time": 1e22, "": -math.inf})
    result = Evaluated(time=NOON, step=4, metrics={"accuracy": 0.5}, dataset='a "b", c')
    texts = [TextLogged(time=NOON, key="k", text="ü\n")]
    run_dir = write_run(tmp_path, [*metrics(range(4)), odd, result, *texts])
    sync_run(run_dir, [CsvSink(), JsonlSink()])
    for kind, name in (("csv", "metrics.csv"), ("jsonl", "events.jsonl")):
        out = tmp_path / name
        done = CliRunner().invoke(app, ["export", str(run_dir), "--to", kind, "--out", str(out)])
        assert done.exit_code == 0, done.output

    assert (run_dir / "metrics.csv").read_bytes() == (tmp_path / "metrics.csv").read_bytes()
    assert read_jsonl(run_dir / "events.jsonl") == read_jsonl(tmp_path / "events.jsonl")


class TestAppending:
    @pytest.mark.parametrize("crash", range(4))
    def test_any_point_of_replacing_can_be_undone(self, tmp_path, crash):
        """Whatever a process got done of it, the next one finds the file as it was."""
        path = tmp_path / "f"

        def kept(part: int) -> Path:
            return tmp_path / f"f.{part}"

        path.write_bytes(b"one\ntwo\nunacknowledged\n")
        if crash >= 1:
            (tmp_path / ".f.new").write_bytes(b"half")
        if crash >= 2:
            kept(1).hardlink_to(path)
        if crash >= 3:
            (tmp_path / ".f.new").replace(path)
            kept(2).write_bytes(b"another")
        file = AppendedFile(path, kept)
        file.settle(1, 8)

        assert path.read_bytes() == b"one\ntwo\n"
        assert not kept(1).exists()
        assert not kept(2).exists()
        file.begin_part([b"three\n"])
        assert (path.read_bytes(), kept(1).read_bytes()) == (b"three\n", b"one\ntwo\n")
        assert (file.part, file.size) == (2, 6)

    def test_a_part_that_cannot_be_completed_replaces_nothing(self, tmp_path):
        """Such as a wider table on a disk that has no space for it."""
        path = tmp_path / "f"
        file = AppendedFile(path, lambda part: tmp_path / f"f.{part}")
        file.append(b"one\n")

        def pieces() -> Iterator[bytes]:
            yield b"wider"
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            file.begin_part(pieces())
        assert [each.name for each in tmp_path.iterdir()] == ["f"]
        assert (path.read_bytes(), file.part, file.size) == (b"one\n", 1, 4)

    def test_what_is_missing_is_said_and_whole_lines_follow(self, tmp_path, caplog):
        """After a power failure the file goes on at its last whole line."""
        path = tmp_path / "f"
        path.write_bytes(b"one\ntw")
        file = AppendedFile(path, lambda part: tmp_path / str(part))
        file.settle(1, 8)
        file.append(b"three\n")

        assert path.read_bytes() == b"one\nthree\n"
        assert "lost 2 bytes" in caplog.text

    def test_appending_cuts_off_what_is_behind(self, tmp_path):
        """The caller's length is the truth."""
        path = tmp_path / "f"
        assert append(path, 0, b"abc") == 3
        assert append(path, 1, b"x") == 2
        assert path.read_bytes() == b"ax"


@pytest.mark.parametrize("name", SINKS)
class TestCrashes:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("batch", "where"), [(1, "written"), (4, "acknowledged"), (4, "written"), (4, "torn")]
    )
    def test_killed_in_the_middle_of_a_batch(self, tmp_path, name, batch, where):
        """Whether it was written or not: afterwards everything is there once, and readable."""
        needs(name)
        wider = [MetricsLogged(time=NOON, step=n, metrics={"n": n, f"m{n}": n}) for n in (310, 355)]
        run_dir = write_run(tmp_path, [*metrics(range(300)), *wider, *metrics(range(400, 700))])
        dead = start_child("sync_child.py", run_dir, name, batch, where)
        dead.communicate(timeout=4 * HANG)
        assert dead.returncode == -signal.SIGKILL
        again = start_child("sync_child.py", run_dir, name)
        again.communicate(timeout=4 * HANG)
        assert again.returncode == 0

        assert steps_in(run_dir)[name] == [*range(300), 310, 355, *range(400, 700)]
        assert list_cursors(run_dir)[name].counts.dead == 0

    @pytest.mark.slow
    def test_killed_at_random(self, tmp_path, name):
        """A large journal, several kills, every record once."""
        needs(name)
        run_dir = write_run(tmp_path, metrics(range(8000)))
        chance = random.Random(name)  # noqa: S311 - no secret
        for _ in range(4):
            before = delivered(run_dir, name)
            child = start_child("sync_child.py", run_dir, name)
            eventually(lambda: delivered(run_dir, name) > before or child.poll() is not None)  # noqa: B023 - called at once
            wanted = before + chance.randint(100, 1500)
            eventually(lambda: delivered(run_dir, name) >= wanted or child.poll() is not None)  # noqa: B023 - called at once
            child.kill()
            child.communicate(timeout=10)
        assert delivered(run_dir, name) < 8000
        last = start_child("sync_child.py", run_dir, name)
        last.communicate(timeout=60)
        assert last.returncode == 0

        assert steps_in(run_dir)[name] == list(range(8000))


def delivered(run_dir: Path, name: str) -> int:
    cursor = list_cursors(run_dir).get(name)
    return cursor.counts.delivered if cursor is not None else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SINKS)
class TestDisks:
    def on_a_disk(self, scenario, name, tmp_path):
        needs(name)
        run_dir = write_run(tmp_path, metrics(range(6000)))
        (tmp_path / "disk").mkdir()
        arguments = (scenario, name, run_dir, tmp_path / "disk", tmp_path / "out")
        return answer(start_child("disk_child.py", *arguments, before=mount_namespace()))

    def test_full(self, tmp_path, name):
        """What fits is whole, space may come back, and then the rest follows once."""
        found = self.on_a_disk("full", name, tmp_path)

        assert found["status"] == "backing off"
        assert "No space left" in found["reason"]
        assert 0 < found["delivered"] < 6000
        partly = steps_in(tmp_path / "out-full")[name]
        assert partly == list(range(len(partly)))
        assert found["complete"]
        assert found["dead"] == 0
        assert steps_in(tmp_path / "out")[name] == list(range(6000))

    def test_read_only(self, tmp_path, name):
        """Somebody has to do something: suspended, with the reason; afterwards all is there."""
        found = self.on_a_disk("read_only", name, tmp_path)

        assert found["status"] == "suspended"
        assert "Read-only" in found["reason"]
        assert found["complete"]
        assert steps_in(tmp_path / "out")[name] == list(range(6000))


def test_a_folder_in_the_way_is_a_wrong_setting(tmp_path):
    """Nobody is asked again and again."""
    (tmp_path / "file").write_text("")
    run_dir = write_run(tmp_path, metrics(range(3)))
    sinks = [CsvSink(path=tmp_path / "file" / "a.csv"), TensorBoardSink(log_dir=tmp_path / "file")]
    accounts = sync_run(run_dir, sinks)

    assert [account.status for account in accounts] == ["suspended", "suspended"]
    assert all("choose another place" in account.reason for account in accounts)


def test_a_run_delivers_while_it_lives(tmp_path):
    """All three beside a training loop, over a resume; the run's folder may move in between."""
    options = BusOptions(flush_interval=0.005)
    sinks = [CsvSink(), JsonlSink(), TensorBoardSink()]
    with Run("live", dir=tmp_path, sinks=sinks, options=options, config={"lr": 0.1}) as run:
        for step in range(20):
            run.log({"n": step}, step=step)
    moved = tmp_path / "moved"
    os.rename(run.dir, moved)  # noqa: PTH104 - a folder
    sinks = [CsvSink(), JsonlSink(), TensorBoardSink()]
    with Run("live", resume=moved, from_step=9, sinks=sinks, options=options) as run:
        for step in range(10, 30):
            run.log({"n": step}, step=step)

    assert steps_in(moved)["csv"] == list(range(30))
    lines = read_jsonl(moved / "events.jsonl")
    assert [line["event"]["step"] for line in lines if line["event"]["type"] == "metrics_logged"]
    assert {line["attempt"] for line in lines} == {1, 2}
    places = [(line["attempt"], line["rank"], line["seq"]) for line in lines]
    assert len(set(places)) == len(places)
    assert json.loads((moved / "cursors" / "csv.json").read_text())["closed"] == "finished"
    assert len(list((moved / "tensorboard").glob("*tfevents.1*"))) == 2


@pytest.mark.slow
def test_a_process_of_its_own_delivers(tmp_path):
    """The sinks are built again there, with the places that this process gave them."""
    sinks = [
        CsvSink(path=tmp_path / "metrics.csv"),
        JsonlSink(path=tmp_path / "events.jsonl"),
        TensorBoardSink(log_dir=tmp_path / "tensorboard"),
    ]
    with Run("apart", dir=tmp_path / "runs", sinks=sinks, deliver="process") as run:
        for step in range(20):
            run.log({"n": step}, step=step)

    assert set(steps_in(tmp_path)) == set(SINKS)
    assert all(steps == list(range(20)) for steps in steps_in(tmp_path).values())
