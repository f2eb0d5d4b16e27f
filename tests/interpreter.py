"""Programs in processes of their own that need not load torch: forks of a Python that has.

`Interpreter` is used as `subprocess` is, with Python's arguments behind `sys.executable`; see
forks.py for what runs them. All workers of a test run share one process to fork from.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, Self

import pytest

from tests.forks import Request
from tests.waiting import eventually

ROOT: Final = Path(__file__).resolve().parents[1]
LOADED: Final = 150.0
"""Seconds after which the process that loads torch counts as hung."""


@dataclass(frozen=True)
class Ended:
    """How a process ended; negative codes are signals."""

    code: int
    out: str
    err: str


class Program:
    """A program that runs, or has; what it has in common with `subprocess.Popen` is the same there.

    Args:
        status: The pipe that tells its number and its end.
        pipes: Our ends of its pipes, by name.

    Attributes:
        pid: Its number.
        returncode: How it has ended, as far as somebody has looked; negative for a signal.
    """

    def __init__(self, status: int, pipes: Mapping[str, IO[str]]) -> None:
        self.stdin, self.stdout, self.stderr = map(pipes.get, ("stdin", "stdout", "stderr"))
        self.returncode: int | None = None
        self._pipes = pipes
        self._status = status
        pid = self._told(LOADED)
        assert pid is not None, "the process that forks does not answer"
        self.pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self) -> int | None:
        """How it has ended, or None."""
        if self.returncode is None:
            self.returncode = self._told(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self.returncode = self._told(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End it, unless it has ended, and close the pipes."""
        if self._status is not None:
            self.kill()
            self.wait()
            os.close(self._status)
            self._status = None
        for each in self._pipes.values():
            each.close()

    def _told(self, timeout: float | None) -> int | None:
        """The next number, or None if it is not told in time."""
        assert self._status is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._status], [], [], timeout)[0]:
                return None
            byte = os.read(self._status, 1)
            assert byte, "whoever waits for the program was killed"
            line += byte
        return int(line)


class Interpreter:
    """Starts programs, as `subprocess` does with `sys.executable` and Python's arguments."""

    def __init__(self) -> None:
        # All workers of a test run have the same parent.
        parallel = "PYTEST_XDIST_WORKER" in os.environ
        self._name = f"hotloop-tests-{os.getppid() if parallel else os.getpid()}"
        self._socket: socket.socket | None = None
        self._loads: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | str = ROOT,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = 1,
        stderr: int = 2,
        start_new_session: bool = False,
        whole: bool = False,
    ) -> Program:
        """Start a program.

        Args:
            arguments: Python's.
            cwd: Where it runs.
            env: All of its variables; by default ours, with this tree to import from.
            stdin: A descriptor, `subprocess.PIPE` or `subprocess.DEVNULL`.
            stdout: Likewise.
            stderr: Likewise.
            start_new_session: Whether it leads a session of its own.
            whole: Whether torch is taken apart at its end too, as an interpreter does.
        """
        variables = {**os.environ, "PYTHONPATH": str(ROOT)} if env is None else dict(env)
        words = [str(each) for each in arguments]
        request = Request(words, str(cwd), variables, start_new_session, whole)
        pipes: dict[str, IO[str]] = {}
        with contextlib.ExitStack() as opened:
            theirs: list[int] = []
            for name, chosen in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                descriptor = chosen
                if chosen == subprocess.PIPE:
                    ours, descriptor = os.pipe() if name != "stdin" else os.pipe()[::-1]
                    pipes[name] = os.fdopen(ours, "w" if name == "stdin" else "r", buffering=1)
                elif chosen == subprocess.DEVNULL:
                    descriptor = os.open(os.devnull, os.O_RDWR)
                if descriptor != chosen:
                    opened.callback(os.close, descriptor)
                theirs.append(descriptor)
            status, tells = os.pipe()
            opened.callback(os.close, tells)
            message = json.dumps(asdict(request)).encode()
            socket.send_fds(self._connected(), [message], [*theirs, tells])
        return Program(status, pipes)

    def run(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | str = ROOT,
        env: Mapping[str, str] | None = None,
        timeout: float,
        whole: bool = False,
    ) -> Ended:
        """Run a program to its end; `start` has the arguments.

        If that takes more than `timeout` seconds the test fails, and shows where each of the
        program's threads stood.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            to = {"stdout": out.fileno(), "stderr": err.fileno()}
            with self.start(arguments, cwd=cwd, env=env, whole=whole, **to) as program:
                try:
                    program.wait(timeout)
                except subprocess.TimeoutExpired:
                    program.send_signal(signal.SIGUSR2)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        program.wait(10)
                    err.seek(0)
                    pytest.fail(f"the process did not end within {timeout} s: {err.read()}")
                code = program.wait()
            out.seek(0)
            err.seek(0)
            return Ended(code, out.read(), err.read())

    def run_script(self, folder: Path, code: str, seconds: float, *, whole: bool = False) -> Ended:
        """Run a script in which `FOLDER` is a folder, where it is written to; as `run` does."""
        script = folder / "script.py"
        script.write_text(f"FOLDER = {str(folder)!r}\n{code}", encoding="utf-8")
        return self.run(["-W", "default", script], timeout=seconds, whole=whole)

    def close(self) -> None:
        """Ask for no more programs; those that run are left alone."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._loads is not None:
            self._loads.wait()
            self._loads = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            eventually(self._connect, LOADED)
        assert self._socket is not None
        return self._socket

    def _connect(self) -> bool:
        """Connect to the process that forks, and start one where there is none."""
        self._socket = self._welcome()
        if self._socket is None and (self._loads is None or self._loads.poll() is not None):
            self._loads = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "tests.forks", self._name],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
            )
        return self._socket is not None

    def _welcome(self) -> socket.socket | None:
        """A connection, unless nobody listens, or whoever does is about to end."""
        asks = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(ConnectionError):
            asks.connect(f"\0{self._name}")
            asks.settimeout(LOADED)
            if asks.recv(16):
                asks.settimeout(None)
                return asks
        asks.close()
        return None


@functools.cache
def shared_interpreter() -> Interpreter:
    """The one of this process."""
    made = Interpreter()
    atexit.register(made.close)
    return made
