"""Programs that show a run on whatever terminal they are started on: `children.py NAME FOLDER`."""

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import runtime
from bus import Statistics
from tests.waiting import HANG, eventually

LINES = 200
"""Lines of each of those who write."""


class Drawn(runtime.Run):
    """A run that knows how often it was drawn: each time, its statistics are asked for."""

    drawings = 0

    def statistics(self) -> Statistics:
        self.drawings += 1
        return super().statistics()

    def show(self, total: int) -> None:
        """Have it drawn, a hundred times as often as people want it."""
        console = self.console(total=total)
        assert console.looks == "panel", console.looks
        console._renderer.period = 0.002
        self.await_drawing()

    def await_drawing(self) -> None:
        """Wait until it is drawn anew: just then."""
        before = self.drawings
        eventually(lambda: self.drawings > before, HANG)


def torn(folder: Path) -> None:
    """Five write at once, each in its way, whenever the panel is drawn."""
    logging.getLogger().addHandler(logging.StreamHandler())  # keeps the stream of now
    _separate("aside", sys.stdout)
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child,  # noqa: S607 - any will do
        Drawn("gpt", dir=folder) as run,
    ):
        run.show(LINES)
        _separate("late", sys.stderr)
        writers = [
            threading.Thread(target=_write, args=(run, name, writes))
            for name, writes in _ways(child).items()
        ]
        for each in writers:
            each.start()
        for step in range(1, LINES + 1):
            run.log({"loss": 1 / step}, step=step)
            if step % 100 == 0:
                run.alert("spike", f"number {step // 100}", step=step)
        for each in writers:
            each.join()
        child.communicate()
        run.flush()
        raise ZeroDivisionError("the exception's words")


def _separate(name: str, stream: object) -> None:
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(stream))


def _ways(child: "subprocess.Popen[bytes]") -> dict[str, Callable[[str], object]]:
    libc = ctypes.CDLL(None)
    assert child.stdin is not None
    return {
        "early": logging.getLogger("early").warning,
        "aside": logging.getLogger("aside").warning,
        "late": logging.getLogger("late").warning,
        "native": lambda line: libc.write(2, f"{line}\n".encode(), len(line) + 1),
        "child": lambda line: os.write(child.stdin.fileno(), f"{line}\n".encode()),
    }


def _write(run: Drawn, name: str, writes: Callable[[str], object]) -> None:
    for number in range(LINES):
        if number % 10 == 0:
            run.await_drawing()
        writes(f"{name} {number:03d} {name * 5}.")


def killed(folder: Path) -> None:
    """Dies without a word while the panel is drawn, just after C code has said why."""
    run = runtime.Run("gpt", dir=folder)
    run.console(total=10)
    run.log({"loss": 1.0}, step=1)
    sys.stdin.readline()
    os.write(2, b"what():  out of memory\n")
    os.kill(os.getpid(), signal.SIGKILL)


def forked(folder: Path) -> None:
    """Forked workers print while the panel is drawn; one ends as a program does."""
    context = multiprocessing.get_context("fork")
    with Drawn("gpt", dir=folder) as run:
        run.show(8)
        for step in range(1, 9):
            run.log({"loss": 1.0}, step=step)
            worker = context.Process(target=sys.stdout.write, args=(f"worker {step:02d}.\n",))
            worker.start()
            worker.join(HANG)
            assert worker.exitcode == 0, worker.exitcode
        child = os.fork()
        if not child:
            sys.exit(0)  # what is registered for the exit runs
        os.waitpid(child, 0)
        sys.stdout.write(f"still shown: {run._console._thread.is_alive()}\n")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
