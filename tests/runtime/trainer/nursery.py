"""Forks children to be killed from one process that has torch loaded and has started no thread.

A script calls `serve` when it is run as a program, and `started` to run itself as one.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

from tests.interpreter import Program, shared_interpreter


def serve(child: Callable[[str], None]) -> None:
    """Fork a child for each line of standard input; tell its number and how it ended.

    Args:
        child: What it does, given the line; it then ends with 0, or with 1 if that raises. What
            it writes to standard output is told as it is.
    """
    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(child, line.rstrip("\n"))
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


def _be(child: Callable[[str], None], line: str) -> None:
    try:
        child(line)
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is an exception
        os._exit(1)
    os._exit(0)


class Lines:
    """Whole lines of a pipe, waited for with a deadline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self, timeout: float) -> str | None:
        """The next line, or None if none comes in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                return None
            self._rest += os.read(self._descriptor, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


class Nursery:
    """The process that forks.

    Attributes:
        lines: What children say, and how they end.
    """

    def __init__(self, process: Program) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.lines = Lines(process.stdout.fileno())
        self._stdin = process.stdin

    def fork(self, line: str) -> int:
        """Start a child, the one before it having ended; return its number."""
        self._stdin.write(f"{line}\n")
        self._stdin.flush()
        return int((self.lines.next(60) or "").removeprefix("pid "))


@contextlib.contextmanager
def started(script: str) -> Iterator[Nursery]:
    """Run a script that calls `serve`; whatever happens, no child of it is left."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with shared_interpreter().start([script], start_new_session=True, **pipes) as process:
        try:
            yield Nursery(process)
            assert process.stdin is not None
            process.stdin.close()
            if process.wait(30) != 0:
                raise RuntimeError("the process that forks the children failed")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
