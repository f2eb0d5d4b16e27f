"""Deliveries on the loop thread of a bus, beside live subscribers, on a real clock."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from bus import (
    JOURNAL_FOLDER,
    Batch,
    BatchLimits,
    BlockingSink,
    Bus,
    ClosedError,
    JournalReader,
    MetricsLogged,
    RunEnded,
    SinkContext,
    SinkStateChanged,
    State,
    UnavailableError,
    list_cursors,
)
from bus._worker import Worker
from tests.bus.delivery.conftest import ScriptedSink
from tests.bus.delivery.elsewhere import FileSink
from tests.waiting import HANG


@pytest.fixture
def context(tmp_path: Path) -> SinkContext:
    return SinkContext(run_dir=tmp_path / "run", run_id="id", name="run")


@pytest.fixture
def bus(tmp_path):
    (tmp_path / "run").mkdir()
    bus = Bus(tmp_path / "run" / JOURNAL_FOLDER)
    yield bus
    bus.close(2)


def publish(bus, count, start=0):
    for n in range(start, start + count):
        bus.publish(MetricsLogged(step=n, metrics={"n": float(n)}))


def finish(bus, seconds=10.0):
    return bus.close(seconds, last=lambda: RunEnded(outcome="finished"))


def sent(path: Path) -> list[float]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [float(value) for _, kind, _, value in rows if kind != "closed"]


def test_a_sink_gets_everything_and_the_outcome(bus, context, tmp_path):
    """What was published before it was added, what comes later, and how the run ended."""
    publish(bus, 100)
    bus.add_sink(FileSink(path=tmp_path / "out"), context)
    publish(bus, 100, start=100)
    account = finish(bus)

    assert sent(tmp_path / "out") == list(range(200))
    assert "closed finished" in (tmp_path / "out").read_text(encoding="utf-8")
    (mine,) = account.sinks
    assert (mine.name, mine.delivered, mine.pending, mine.complete) == ("file", 200, 0, True)
    assert mine.url == f"file://{tmp_path / 'out'}"


def test_health_is_in_the_journal(bus, context, tmp_path, eventually):
    """Each change of a sink's health is an event like any other."""
    bus.add_sink(FileSink(path=tmp_path / "out"), context)
    publish(bus, 1)
    eventually(lambda: bus.statistics().sinks["file"].delivered == 1)
    finish(bus)

    records = JournalReader(tmp_path / "run").records(types=(SinkStateChanged,))
    assert [(r.event.sink, r.event.status) for r in records] == [("file", "delivering")]


def test_one_that_fails_changes_nothing_for_another(bus, context, tmp_path):
    """The healthy one gets everything in time, the account names what waits for the other."""
    broken = ScriptedSink([UnavailableError("down")] * 1000)
    bus.add_sink(broken, context)
    bus.add_sink(FileSink(path=tmp_path / "out"), context)
    publish(bus, 100)
    started = time.monotonic()
    account = finish(bus, 20)

    assert time.monotonic() - started < HANG
    waiting, healthy = account.sinks
    assert (waiting.delivered, waiting.pending, waiting.complete) == (0, 100, False)
    assert waiting.status == "backing off"
    assert (healthy.delivered, healthy.complete) == (100, True)


def test_blocking_calls_run_elsewhere_one_at_a_time(bus, context, eventually, caplog):
    """While one hangs, the loop goes on; closing abandons it and ends in time.

    What the sink holds is let go of when the call has returned after all.
    """
    release, released = threading.Event(), threading.Event()
    threads: set[str] = set()

    class Hanging(BlockingSink):
        name = "hanging"
        wants = (MetricsLogged,)
        write_timeout = 0.2

        def write_blocking(self, batch: Batch, state: State) -> State:
            threads.add(f"{threading.current_thread().name} {len(batch)}")
            release.wait(60)
            return state

        def release_blocking(self) -> None:
            released.set()

    sink = Hanging()
    bus.add_sink(sink, context)
    other = ScriptedSink()
    bus.add_sink(other, context)
    publish(bus, 10)
    eventually(lambda: len(other.got) == 10)
    eventually(lambda: bus.statistics().sinks["hanging"].status == "backing off")
    started = time.monotonic()
    account = finish(bus, 2)
    assert not released.is_set()
    release.set()

    assert released.wait(HANG)
    assert "could not be released" not in caplog.text
    assert time.monotonic() - started < HANG
    assert threads == {"hotloop-sink-hanging 10"}
    assert account.sinks[0].delivered == 0
    assert account.sinks[1].complete


def test_a_name_is_taken_once(bus, context, tmp_path):
    """Two sinks of one name would share a cursor."""
    bus.add_sink(FileSink(path=tmp_path / "out"), context)
    with pytest.raises(ValueError, match="named 'file' already"):
        bus.add_sink(FileSink(path=tmp_path / "other"), context)


def test_a_closed_bus_takes_no_sink(bus, context, tmp_path):
    """Nobody would ever deliver to it."""
    finish(bus)
    with pytest.raises(ClosedError):
        bus.add_sink(FileSink(path=tmp_path / "out"), context)


def test_bind_runs_where_the_sink_is_added(bus, context):
    """In the training thread, before anything else."""
    called = []

    class Bound(ScriptedSink):
        def bind(self, context):
            called.append((threading.current_thread(), context.run_id))

    bus.add_sink(Bound(), context)
    assert called == [(threading.current_thread(), "id")]


def test_a_bus_without_memory_delivers_nothing(context, tmp_path):
    """There is nothing to deliver from, and it says so."""
    bus = Bus(None)
    with pytest.raises(ValueError, match="without a journal"):
        bus.add_sink(FileSink(path=tmp_path / "out"), context)
    bus.close(1)


class Tens(ScriptedSink):
    """Batches of ten."""

    limits = BatchLimits(events=10, age=0.0)


def test_a_disk_that_is_slow_at_the_end(write_run):
    """What is being noted as the time is over is noted first, and what waits is counted then."""
    run, sink, worker = write_run(30), Tens(), Worker("disk")
    noting, go_on = threading.Event(), threading.Event()

    async def disk(function: Callable[..., object], *arguments: object) -> object:
        def slow() -> object:
            if function.__name__ == "save" and len(sink.got) == 20:
                noting.set()
                assert go_on.wait(HANG)
            return function(*arguments)

        return await worker.call_in_turn(slow)

    delivery = run.delivery(sink, disk=disk)

    async def cut_off() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(delivery.run)
            await anyio.to_thread.run_sync(noting.wait)
            delivery.abandon()
            while "release" not in sink.calls:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            go_on.set()

    anyio.run(cut_off)
    worker.end()
    assert (delivery.account.delivered, delivery.account.pending) == (20, 10)
    assert list_cursors(run.dir)["scripted"].counts.delivered == 20
