"""One case of `console.py`: a launch-bound step in blocks without and with somebody watching.

Started by it as `python _console_case.py FOLDER PLAN`; prints a `ShownResult` as JSON.
"""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from _console_result import ShownPlan, ShownResult
from _step_cost_case import Block, make_step
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm

from bus import StepEnded
from runtime import Run

_WARM_UP = 0.4
"""Seconds in which a display appears and the caches settle."""

Log = Callable[[dict[str, float], int], object]


class Loop:
    """A loop that logs to a run and tells of its steps as a trainer does."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.step = 0
        self.after_step: Callable[[], object] = _nothing
        self.after_log: Callable[[dict[str, float]], object] = _nothing
        self._step = make_step()

    def take_step(self) -> None:
        """Take one step."""
        self._step()
        self.step += 1
        if self.run.wants(StepEnded):
            self.run.publish(StepEnded(step=self.step))
        self.after_step()

    def log(self, metrics: dict[str, float], _number: int) -> None:
        """Log numbers."""
        self.run.log(metrics, step=self.step)
        self.after_log(metrics)


def _nothing(*_: object) -> None:
    """Stand for what somebody who watches would do in the loop."""


@contextmanager
def terminal() -> Iterator[IO[str]]:
    """A terminal that another process reads."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with (
        os.fdopen(theirs, "w", encoding="utf-8") as file,
        subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL) as reader,  # noqa: S607 - whichever there is
    ):
        os.close(ours)
        yield file
        reader.terminate()


@contextmanager
def shown(loop: Loop, plan: ShownPlan, file: IO[str]) -> Iterator[None]:
    """Show the loop's run meanwhile."""
    match plan.shown:
        case "tqdm in the loop":
            bar: tqdm[Any] = tqdm(file=file, total=10**6)
            loop.after_step = bar.update
            loop.after_log = lambda metrics: bar.set_postfix(metrics, refresh=False)
            yield
            bar.close()
        case "rich in the loop":
            with Progress(console=Console(file=file), refresh_per_second=4) as progress:
                task = progress.add_task("training", total=10**6)
                loop.after_step = lambda: progress.advance(task)
                yield
        case style:
            console = loop.run.console(style, total=10**6, file=file, interval=1.0)
            assert console.looks == style, console.looks
            yield
            console.close()
    loop.after_step = loop.after_log = _nothing


class Measured(NamedTuple):
    """Mean and 99th percentile of steps, their own CPU time, and the share of other threads."""

    mean: float
    p99: float
    cpu: float
    others: float


def block(loop: Loop, plan: ShownPlan) -> Measured:
    """Take steps for a while."""
    Block(loop.take_step, plan.model_copy(update={"seconds": _WARM_UP})).run(loop.log)
    first, own, all_of_it = loop.step, time.thread_time(), time.process_time()
    measured = Block(loop.take_step, plan).run(loop.log)
    own, all_of_it = time.thread_time() - own, time.process_time() - all_of_it
    return Measured(
        measured.mean,
        measured.p99,
        cpu=own / (loop.step - first),
        others=(all_of_it - own) / measured.seconds,
    )


def measure_case(folder: Path, plan: ShownPlan) -> ShownResult:
    """Alternate blocks without and with somebody watching."""
    result = ShownResult()

    def base() -> None:
        measured = block(loop, plan)
        result.base.append(measured.mean)
        result.base_p99.append(measured.p99)
        result.base_cpu.append(measured.cpu)
        result.base_share.append(measured.others)

    with Run("bench", dir=folder) as run, terminal() as file:
        loop = Loop(run)
        block(loop, plan)
        for _ in range(plan.blocks):
            base()
            with shown(loop, plan, file):
                measured = block(loop, plan)
            result.shown.append(measured.mean)
            result.shown_p99.append(measured.p99)
            result.shown_cpu.append(measured.cpu)
            result.share.append(measured.others)
        base()
    return result


def main() -> None:
    """Measure the case that the command line describes."""
    folder, plan = sys.argv[1:]
    torch.set_num_threads(1)
    os.environ["TERM"] = "xterm-256color"
    print(measure_case(Path(folder), ShownPlan.model_validate_json(plan)).model_dump_json())


if __name__ == "__main__":
    main()
