"""This library, without sinks: the journal is written, nothing is delivered."""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import bus
import runtime
from benchmarks.peers._records import Session


def open_interval(folder: Path) -> Session:
    """Open a run whose writer wakes at the flush interval."""
    return _open(folder, "interval")


def open_write(folder: Path) -> Session:
    """Open a run whose publishing thread hands every event to the kernel itself."""
    return _open(folder, "write")


def _open(folder: Path, durability: Literal["interval", "write"]) -> Session:
    stack = ExitStack()
    run = stack.enter_context(runtime.Run(name="peers", dir=folder, durability=durability))

    def log(scalars: dict[str, float], step: int, /) -> None:
        run.log(scalars, step=step)

    def kept() -> int:
        return sum(1 for _ in bus.JournalReader(run.dir).rows(types={"metrics_logged"}))

    return Session(log=log, close=stack.close, kept=kept)
