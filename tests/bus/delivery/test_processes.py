"""Deliveries in processes of their own: killed, stopped, orphaned."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Bus,
    BusOptions,
    MetricsLogged,
    RunEnded,
    RunInfo,
    SinkContext,
    list_cursors,
    sync_run,
)
from tests.bus.delivery.conftest import ScriptedSink
from tests.bus.delivery.elsewhere import FileSink
from tests.waiting import HANG

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    info = RunInfo.new("run", None)
    info.attempts.append(AttemptInfo.here(1, None))
    info.save(folder)
    return folder


@pytest.fixture
def context(run_dir: Path) -> SinkContext:
    return SinkContext(run_dir=run_dir, run_id=RunInfo.load(run_dir).id, name="run")


@pytest.fixture
def bus(run_dir: Path):
    bus = Bus(run_dir / JOURNAL_FOLDER, options=BusOptions(deliver="process"))
    yield bus
    bus.close(2)


def publish(bus, count, start=0):
    for n in range(start, start + count):
        bus.publish(MetricsLogged(step=n, metrics={"n": float(n)}))


def finish(bus, seconds=15.0):
    return bus.close(seconds, last=lambda: RunEnded(outcome="finished"))


def rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def sent(path: Path) -> list[float]:
    return [float(row[3]) for row in rows(path) if row[1] != "closed"]


def test_everything_arrives_from_another_process(bus, context, tmp_path):
    """The same contract, another process; its account comes back."""
    bus.add_sink(FileSink(path=tmp_path / "out"), context)
    publish(bus, 200)
    account = finish(bus)

    assert sent(tmp_path / "out") == list(range(200))
    pids = {row[0] for row in rows(tmp_path / "out")}
    assert len(pids) == 1
    assert str(os.getpid()) not in pids
    (mine,) = account.sinks
    assert (mine.delivered, mine.pending, mine.complete) == (200, 0, True)


def test_a_killed_process_is_started_again(bus, context, tmp_path, eventually):
    """Nothing is lost by it."""
    out = tmp_path / "out"
    bus.add_sink(FileSink(path=out), context)
    publish(bus, 100)
    eventually(lambda: len(sent(out)) == 100)
    os.kill(int(rows(out)[-1][0]), signal.SIGKILL)
    publish(bus, 100, start=100)
    account = finish(bus)

    assert sorted(set(sent(out))) == list(range(200))
    assert len({row[0] for row in rows(out)}) == 2
    assert account.sinks[0].complete


def test_a_stopped_process_does_not_hold_up_closing(bus, context, tmp_path, eventually):
    """It is killed when the time is over, and what it left is delivered by the next one."""
    out = tmp_path / "out"
    bus.add_sink(FileSink(path=out), context)
    publish(bus, 10)
    eventually(lambda: len(sent(out)) == 10)
    os.kill(int(rows(out)[-1][0]), signal.SIGSTOP)
    publish(bus, 90, start=10)
    started = time.monotonic()
    account = finish(bus, 2)

    assert time.monotonic() - started < HANG
    assert not account.sinks[0].complete
    info = RunInfo.load(context.run_dir)
    info.attempts[0].outcome = "finished"
    info.save(context.run_dir)
    (synced,) = sync_run(context.run_dir, [FileSink(path=out)])
    assert synced.complete
    assert sorted(set(sent(out))) == list(range(100))


def test_the_death_of_the_trainer_closes_the_run_as_crashed(tmp_path, eventually):
    """What it had journalled is delivered, although a fork holds its pipes open."""
    out = tmp_path / "out"
    script = f"""
import os, signal, time
import runtime
from tests.bus.delivery.elsewhere import FileSink
run = runtime.Run("run", dir={str(tmp_path)!r}, sinks=[FileSink(path={str(out)!r})],
                  deliver="process")
run.log({{"n": 0.0}}, step=0)
while not os.path.exists({str(out)!r}):
    time.sleep(0.01)
for n in range(1, 300):
    run.log({{"n": float(n)}}, step=n)
run.flush()
if os.fork() == 0:
    os.setsid()
    time.sleep(6)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    eventually(lambda: any(row[1] == "closed" for row in rows(out)), 15)

    assert sent(out) == list(range(300))
    assert rows(out)[-1][1:3] == ["closed", "crashed"]
    eventually(lambda: list_cursors(tmp_path / "run")["file"].closed == "crashed")


def test_secrets_are_in_no_process_list(bus, context, tmp_path, eventually):
    """Settings travel over a pipe."""
    out = tmp_path / "out"
    bus.add_sink(FileSink(path=out, token="planted-secret-1"), context)  # noqa: S106 - planted
    publish(bus, 1)
    eventually(lambda: rows(out))
    proc = Path("/proc") / rows(out)[0][0]
    assert b"bus.deliver" in (proc / "cmdline").read_bytes()
    assert b"planted-secret-1" not in (proc / "cmdline").read_bytes()
    assert b"planted-secret-1" not in (proc / "environ").read_bytes()
    finish(bus)
    for path in context.run_dir.rglob("*"):
        assert path.is_dir() or b"planted-secret-1" not in path.read_bytes()


def test_what_only_this_process_has_stays_here(bus, context, caplog):
    """A sink that another process could not build is served by this one, with a notice."""

    class Local(ScriptedSink):
        name = "local"

    sink = Local()
    bus.add_sink(sink, context)
    publish(bus, 10)
    account = finish(bus)

    assert sink.values == list(range(10))
    assert account.sinks[0].complete
    assert "delivered to from this process" in caplog.text
