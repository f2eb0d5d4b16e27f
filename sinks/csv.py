"""Keeps a run's metrics as one wide table in a file that spreadsheets and pandas read."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from bus import (
    Batch,
    CheckpointSaved,
    Evaluated,
    Event,
    MetricsLogged,
    Predicted,
    Promise,
    Record,
    RejectedError,
    RunStarted,
    SystemMetricsLogged,
    TrainEnded,
)
from sinks._file_sink import FileSettings, FileSink
from sinks._files import AppendedFile

__all__ = ["CsvSink"]

Cell: TypeAlias = float | str | None

_PLACE: Final = ("attempt", "rank", "step", "time", "type", "dataset")
_LONGEST_NAME: Final = 10_000
"""Characters; what reads the table back refuses cells of more than 131,072."""


class CsvSink(FileSink):
    """One row for each event with metrics, one column for each metric, as `hotloop export` writes.

    The columns before the metrics are attempt, rank, step, time (Unix seconds), type and dataset;
    a metric of such a name is called `metric:step`. NaN and infinities are spelled NaN, Infinity
    and -Infinity. When a metric appears for the first time, the file is replaced by a wider one at
    once and complete, so that every row always has a cell for every column; that costs as much as
    copying it.

    Delivery: exactly once, crashes included, as long as the disk keeps what it was given. Rows that
    a resume replaced are removed.
    """

    name: ClassVar[str] = "csv"
    wants: ClassVar[tuple[type[Event], ...]] = (
        MetricsLogged,
        Evaluated,
        Predicted,
        TrainEnded,
        SystemMetricsLogged,
        CheckpointSaved,
        RunStarted,
    )
    default: ClassVar[str] = "metrics.csv"
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="The part of the file that was not acknowledged is cut off before the next write; "
        "a power failure may cost the last rows.",
    )

    class Settings(FileSettings, env_prefix="HOTLOOP_CSV_"):
        """Where the file is."""

    def kept(self, path: Path, part: int) -> Path:
        """Where an earlier part of the file is, until the one that replaced it is acknowledged."""
        return path.with_name(f".{path.name}.{part:06d}")

    def write_lines(self, file: AppendedFile, batch: Batch) -> None:
        """Append a batch, after making room for its metrics and for a resume."""
        rows = _rows(batch)
        known = _header(file)
        names = list(dict.fromkeys([*(known or _PLACE), *(name for row in rows for name in row)]))
        beyond = _superseded_beyond(batch)
        if known and (len(names) > len(known) or beyond is not None):
            file.begin_part(_rewritten(file.path, names, batch.attempt, beyond))
        lines = [] if known else [_line(names)]
        lines += [_line([row.get(name) for name in names]) for row in rows]
        if known or rows:
            file.append(b"".join(lines))


def _rows(batch: Batch) -> list[dict[str, Cell]]:
    """The rows of a batch by column.

    Raises:
        RejectedError: A name is too long for what reads it back.
    """
    rows: list[dict[str, Cell]] = []
    for index, record in enumerate(batch):
        metrics = _metrics(record.event)
        if not metrics:
            continue
        row = _place(record) | {_heading(name): value for name, value in metrics.items()}
        if any(len(name) > _LONGEST_NAME for name in (*row, str(row["dataset"]))):
            raise RejectedError("a name is too long for a table", guilty=(index,))
        rows.append(row)
    return rows


def _metrics(event: Event) -> Mapping[str, float]:
    if isinstance(event, RunStarted):
        return {}
    assert isinstance(
        event,
        MetricsLogged | Evaluated | Predicted | TrainEnded | SystemMetricsLogged | CheckpointSaved,
    )
    return event.metrics


def _place(record: Record) -> dict[str, Cell]:
    event = record.event
    dataset = event.dataset if isinstance(event, Evaluated) else None
    return {
        "attempt": record.attempt,
        "rank": record.rank,
        "step": event.step,
        "time": event.time,
        "type": event.type,
        "dataset": dataset,
    }


def _heading(name: str) -> str:
    return f"metric:{name}" if name in _PLACE else name


def _superseded_beyond(batch: Batch) -> int | None:
    """The step that this attempt went on from, if the batch holds its beginning."""
    starts = [event for event in batch.events if isinstance(event, RunStarted)]
    return starts[0].resumed_from_step if starts and batch.attempt > 1 else None


def _header(file: AppendedFile) -> list[str]:
    """The columns that a file has; none if it is empty."""
    if file.size:
        for names in _read(file.path):
            return names
    return []


def _read(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as text:
        yield from csv.reader(text)


def _rewritten(
    path: Path, names: Sequence[str], attempt: int, beyond: int | None
) -> Iterator[bytes]:
    """A file's rows under more columns, without those that an attempt replaced."""
    rows = _read(path)
    next(rows)
    yield _line(names)
    for row in rows:
        step = row[2]
        superseded = beyond is not None and step and int(step) > beyond and int(row[0]) < attempt
        if not superseded:
            yield _line([*row, *[None] * (len(names) - len(row))])


def _line(cells: Iterable[Cell]) -> bytes:
    return ",".join(map(_cell, cells)).encode() + b"\n"


def _cell(value: Cell) -> str:
    """One cell; quoted as RFC 4180 says, and wherever spaces at an end could get lost."""
    if value is None:
        return ""
    if isinstance(value, str):
        plain = value == value.strip() and not any(mark in value for mark in ',"\r\n')
        return value if plain else '"' + value.replace('"', '""') + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(value)
