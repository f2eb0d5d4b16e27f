"""A bus with its journal, waiting with a deadline, and processes that end for real."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from bus import JOURNAL_FOLDER, Bus, BusOptions, Event, JournalReader, MetricsLogged

ROOT = Path(__file__).resolve().parents[3]
AnyEvent = TypeVar("AnyEvent", bound=Event)


class Journal:
    """What is in the journal's files at this moment."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._reader: JournalReader | None = None
        self._metrics: list[dict[str, float]] = []

    @property
    def events(self) -> list[Event]:
        if not (self.run_dir / JOURNAL_FOLDER).is_dir():
            return []
        return [record.event for record in JournalReader(self.run_dir).records(superseded=True)]

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def values(self, key: str = "n") -> list[float]:
        """One metric's values in order; reads only what is new, so that no flood outruns it."""
        if self._reader is None and (self.run_dir / JOURNAL_FOLDER).is_dir():
            self._reader = JournalReader(self.run_dir)
        if self._reader is not None:
            rows = self._reader.poll_rows(types={"metrics_logged"})
            self._metrics += [metrics for row in rows if (metrics := row.data["metrics"])]
        return [metrics[key] for metrics in self._metrics if key in metrics]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "run")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What subscribers under test block on; set at the end, so that their threads end too."""
    event = threading.Event()
    yield event
    event.set()


class MakeBus(Protocol):
    def __call__(self, *, remembers: bool = True, **options: object) -> Bus: ...


@pytest.fixture
def make_bus(tmp_path: Path, release: threading.Event) -> Iterator[MakeBus]:
    """Opens buses that write every few milliseconds, and closes them at the end."""
    opened: list[Bus] = []

    def make(*, remembers: bool = True, **options: object) -> Bus:
        chosen = BusOptions(**{"flush_interval": 0.005, **options})
        folder = tmp_path / "run" / JOURNAL_FOLDER if remembers else None
        opened.append(Bus(folder, options=chosen))
        return opened[-1]

    yield make
    release.set()
    for bus in opened:
        bus.close(2)


@pytest.fixture
def bus(make_bus: MakeBus) -> Bus:
    return make_bus()


@pytest.fixture
def publish(bus: Bus) -> Callable[[int], None]:
    """Publishes metrics n = 0, 1, ... at steps of the same number."""

    def numbers(count: int) -> None:
        for n in range(count):
            bus.publish(MetricsLogged(step=n, metrics={"n": float(n)}))

    return numbers


@dataclass(frozen=True)
class Ended:
    """How a process ended; negative codes are signals."""

    code: int
    out: str
    err: str


_SERVER = """
import faulthandler, gc, os, signal, sys
import torch, runtime
runtime.Run
gc.collect()
gc.freeze()  # a child that looks through all of torch at its end would copy it first
for line in sys.stdin:
    script, out, err = line.rstrip("\\n").split("\\t")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
faulthandler.register(signal.SIGUSR2, chain=True)  # every thread's stack, then the end
with open(script) as file:
    source = file.read()
exec(compile(source, script, "exec"))
"""


class Interpreter:
    """A Python that has torch loaded already and forks once for each script.

    The fork happens before any run exists. The child's main module is the script, and its end is
    the interpreter's ordinary end, with everything that belongs to it.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
        self._server = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )

    def run(self, folder: Path, code: str, seconds: float) -> Ended:
        """Runs a script in which `FOLDER` is the folder; kills it when the time is over.

        Then the failure shows where each of its threads stood.
        """
        script, out, err = (folder / name for name in ("script.py", "out.txt", "err.txt"))
        script.write_text(f"FOLDER = {str(folder)!r}\n{code}", encoding="utf-8")
        assert self._server.stdin is not None
        self._server.stdin.write(f"{script}\t{out}\t{err}\n".encode())
        self._server.stdin.flush()
        child = self._answer(60.0)
        assert child is not None, "the server did not start the script"
        code_or_none = self._answer(seconds)
        if code_or_none is None:
            os.kill(child, signal.SIGUSR2)
            if self._answer(10.0) is None:
                os.kill(child, signal.SIGKILL)
                self._answer(10.0)
            pytest.fail(f"the process did not end within {seconds} s: {err.read_text()}")
        return Ended(code_or_none, out.read_text(), err.read_text())

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def _answer(self, seconds: float) -> int | None:
        stdout = self._server.stdout
        assert stdout is not None
        line = b""
        deadline = time.monotonic() + seconds
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            line += os.read(stdout.fileno(), 1)
        return int(line)


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    server = Interpreter()
    yield server
    server.close()


class RunScript(Protocol):
    def __call__(self, code: str, seconds: float = 20.0) -> Ended: ...


@pytest.fixture
def run_script(interpreter: Interpreter, tmp_path: Path) -> RunScript:
    """Runs a script in a process of its own; its runs belong under `FOLDER`."""

    def run(code: str, seconds: float = 20.0) -> Ended:
        return interpreter.run(tmp_path, code, seconds)

    return run
