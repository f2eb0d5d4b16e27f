"""Neptune's offline run: one SQLite commit per call, on the calling thread."""

import sqlite3
from contextlib import closing
from pathlib import Path

from neptune_scale import Run  # type: ignore[import-untyped]  # ships no py.typed

from benchmarks.peers._records import Session


def open_offline(folder: Path) -> Session:
    """Open an offline run without console or source capture."""
    run = Run(
        mode="offline",
        project="bench/peers",
        run_id="peers",
        log_directory=folder,
        enable_console_log_capture=False,
        source_tracking_config=None,
    )

    def log(scalars: dict[str, float], step: int, /) -> None:
        run.log_metrics(scalars, step=step)

    return Session(log=log, close=run.close, kept=lambda: _operations(folder))


def _operations(folder: Path) -> int:
    (file,) = folder.glob("*/run_operations.sqlite3")
    with closing(sqlite3.connect(file)) as database:
        operations = int(database.execute("select count(*) from run_operations").fetchone()[0])
    return operations - 1  # the first creates the run
