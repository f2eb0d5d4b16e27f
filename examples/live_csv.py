"""Writes a row of CSV the moment a metric is logged, for whatever reads along.

The sink `csv` writes the same metrics in batches, and goes on where a crash left it; this one is
for a plotting script that wants each row at once and may miss some.

    python examples/live_csv.py
"""

import csv
import io
from pathlib import Path

import anyio
from small_loop import train

import runtime
from bus import EventStream, MetricsLogged


def live_csv(run: runtime.Run, path: Path, *, columns: tuple[str, ...]) -> None:
    """Append `step` and `columns` of each metrics event to `path`; a missing value stays empty."""

    @run.subscribe(MetricsLogged, buffer=10_000)
    async def write_rows(events: EventStream[MetricsLogged]) -> None:
        async with await anyio.open_file(path, "a", newline="") as file:
            await file.write(_row("step", *columns))
            async for event in events:
                values = (event.metrics.get(name, "") for name in columns)
                await file.write(_row(event.step, *values))
                await file.flush()


def _row(*values: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def main() -> Path:
    """Train for 300 steps; returns the file."""
    with runtime.Run(name="live_csv") as run:
        path = run.dir / "live.csv"
        live_csv(run, path, columns=("loss", "gradient_norm"))
        train(run)
    return path


if __name__ == "__main__":
    print(main())
