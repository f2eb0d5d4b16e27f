"""`hotloop sync` and `hotloop sinks` on real runs."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import runtime
from bus import SINKS, RejectedError, UnavailableError
from tests.bus.delivery.conftest import ScriptedSink


class Ledger(ScriptedSink):
    """Remembers what it got, for the next process that is none."""

    name = "ledger"
    kept: list[float]
    refuses: set[float]
    down: bool

    async def write(self, batch, state):
        if type(self).down:
            raise UnavailableError("down")
        values = [record.event.metrics["n"] for record in batch]
        if refused := type(self).refuses & set(values):
            raise RejectedError(f"no {refused}", guilty=tuple(map(values.index, refused)))
        type(self).kept += values
        return state


@pytest.fixture
def ledger():
    """A registered sink whose server is down at first."""
    kind = type("Here", (Ledger,), {"kept": [], "refuses": set(), "down": True})
    SINKS.register("ledger", kind)
    yield kind
    SINKS._registered.pop("ledger")


@pytest.fixture
def run_dir(tmp_path: Path, ledger) -> Path:
    with runtime.Run("gpt", dir=tmp_path, sinks=["ledger"], close_timeout=1) as run:
        for n in range(50):
            run.log({"n": float(n)}, step=n)
    assert ledger.kept == []
    return run.dir


def test_sync_delivers_what_waits(run_dir, ledger, invoke):
    """The run's own process could not; the command needs no names."""
    ledger.down = False
    done = invoke("sync", run_dir)

    assert done.exit_code == 0, done.output
    assert ledger.kept == list(range(50))
    assert "ledger" in done.output
    assert "finished" in done.output
    assert invoke("sync", run_dir).exit_code == 0
    assert ledger.kept == list(range(50))


def test_sync_says_how_far_it_is(run_dir, ledger, invoke):
    """Without a terminal in plain lines, apart from the table of what came of it."""
    ledger.down = False
    done = invoke("sync", run_dir)

    first = done.stderr.splitlines()[0]
    assert re.fullmatch(r"ledger: \d+ of 50 events.* \(\w+\)", first)
    assert done.stdout.splitlines()[-1].split() == ["ledger", "finished", "50", "0"]
    assert invoke("sync", run_dir, "--json").stderr == ""


def test_sync_has_a_bar_for_each_sink_on_a_terminal(run_dir, environment):
    """Events delivered of those there are, how fast, and the time left."""
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "runtime.cli", "sync", str(run_dir), "--sink", "csv"]
    with subprocess.Popen(  # noqa: S603 - our own words
        command,
        env={**environment, "TERM": "xterm", "HOTLOOP_CSV_PATH": str(run_dir / "metrics.csv")},
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how the end of a terminal shows
            while piece := os.read(terminal, 1 << 16):
                shown += piece
        assert child.stdout is not None
        table = child.stdout.read().decode()
    os.close(terminal)

    assert child.returncode == 0
    assert re.search(r"csv .* 51 of 51 events", shown.decode())
    assert "0:00:00" in shown.decode()
    assert table.splitlines()[-1].split()[:4] == ["csv", "finished", "51", "0"]


def test_sync_says_that_something_waits_still(run_dir, invoke):
    """With exit code 1, and the numbers as JSON."""
    done = invoke("sync", run_dir, "--timeout", "0.5", "--json")

    assert done.exit_code == 1
    (found,) = json.loads(done.stdout)[str(run_dir)]
    assert (found["name"], found["delivered"], found["pending"]) == ("ledger", 0, 50)
    assert found["reason"] == "down"


def test_dead_letters_are_sent_again(run_dir, ledger, invoke):
    """What the sink takes now is removed from them; what it refuses again stays."""
    ledger.down = False
    ledger.refuses = {7.0, 9.0}
    assert invoke("sync", run_dir).exit_code == 1
    ledger.refuses = {9.0}
    assert invoke("sync", run_dir, "--dead").exit_code == 1
    assert ledger.kept == [*(n for n in range(50) if n not in {7, 9}), 7]
    ledger.refuses = set()
    done = invoke("sync", run_dir, "--dead")
    assert done.exit_code == 0, done.output
    assert "1 taken, 0 refused again" in done.output
    assert sorted(ledger.kept) == list(range(50))


def test_wrong_names_are_usage_errors(run_dir, invoke, tmp_path):
    """An unknown sink, an unknown run, a run that never had a sink."""
    done = invoke("sync", run_dir, "--sink", "ledgr")
    assert done.exit_code == 2
    assert "there is no sink 'ledgr'" in done.output
    assert invoke("sync", tmp_path / "nothing").exit_code == 2
    with runtime.Run("plain", dir=tmp_path):
        pass
    done = invoke("sync", tmp_path / "plain")
    assert done.exit_code == 2
    assert "name one with --sink" in done.output


def test_status_shows_how_sinks_do(run_dir, invoke):
    """Health, counts and the destination's words."""
    done = invoke("status", run_dir)
    assert "backing off" in done.output
    assert "down" in done.output
    found = json.loads(invoke("status", run_dir, "--json").stdout)["sinks"]["ledger"]
    assert found["health"]["status"] == "backing off"


def test_sinks_lists_every_state(ledger, invoke):
    """Ready or not, with what to do about it."""
    del ledger
    done = invoke("sinks")
    assert done.exit_code == 0
    assert "ledger" in done.output
    found = {each["name"]: each for each in json.loads(invoke("sinks", "--json").stdout)}
    assert found["ledger"]["readiness"] == "ready"


def test_closing_says_what_delivers_the_rest(tmp_path, ledger, caplog):
    """The command would not know a sink that only this program has registered."""
    with runtime.Run("gpt", dir=tmp_path, sinks=["ledger"], close_timeout=1) as run:
        run.log({"n": 1.0}, step=1)
    assert ledger.kept == []
    assert "1 wait (down)" in caplog.text
    assert f"bus.sync_run(pathlib.Path('{run.dir}'), [...])" in caplog.text
