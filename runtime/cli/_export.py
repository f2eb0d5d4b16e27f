"""`hotloop export`: a run's data for other programs, as a table of metrics or as its events.

The table has one row per event that carries metrics and one column per metric. Its columns are
known only after everything was read once, so the journal is read twice and memory stays flat;
what a running run adds in between is left for the next export.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, TextIO, TypeAlias

import typer

from bus import JournalReader, Row
from runtime.cli._fields import metrics, number, text, whole
from runtime.cli._journal import json_line, none_found
from runtime.cli._output import byte_output

Values: TypeAlias = dict[str, float | str]

PLACE_COLUMNS: Final = ("attempt", "rank", "step", "time", "type", "dataset")
"""The columns of the table that come before the metrics."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which events of which run are exported.

    Attributes:
        run_dir: The run.
        types: Journal names of the event types wanted, none for all.
        superseded: Whether to include what a later attempt replaced, marked so.
    """

    run_dir: Path
    types: frozenset[str]
    superseded: bool

    def rows(self) -> Iterator[Row]:
        """Reads them, attempt by attempt, rank by rank."""
        return JournalReader(self.run_dir).rows(types=self.types, superseded=self.superseded)


@dataclass
class Columns:
    """What the first reading found: the metrics, and how far each rank had come.

    Attributes:
        names: The metrics in the order they first appear; the values mean nothing.
        last: The highest `seq` by attempt and rank.
    """

    names: dict[str, None] = field(default_factory=dict[str, None])
    last: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def add(self, row: Row, values: Values) -> None:
        """Takes note of one row."""
        self.names.update(dict.fromkeys(values))
        self.last[row.attempt, row.rank] = row.seq

    def cover(self, row: Row) -> bool:
        """Whether the row was there at the first reading."""
        return row.seq <= self.last.get((row.attempt, row.rank), 0)


class Table:
    """Writes comma-separated lines that end as Unix programs expect.

    With that ending, Python's csv forgets to quote a carriage return within a cell.
    """

    def __init__(self, file: TextIO) -> None:
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, cells: list[object]) -> None:
        """Writes one line; None is an empty cell."""
        risky = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (self._quoting if risky else self._plain).writerow(cells)


def export(selection: Selection, *, to: str, out: Path | None) -> None:
    """Writes events to a file, which appears when it is complete, or to standard output.

    Args:
        selection: What to write.
        to: `csv` or `jsonl`.
        out: The file, None for standard output.
    """
    write = _write_csv if to == "csv" else _write_jsonl
    with byte_output(out) as file:
        written = write(file, selection)
    if not written and selection.types:
        typer.echo(f"hotloop: {none_found(selection.run_dir, selection.types)}", err=True)


def _write_jsonl(file: BinaryIO, selection: Selection) -> int:
    count = 0
    for row in selection.rows():
        file.write(json_line(row, superseded=selection.superseded) + b"\n")
        count += 1
    return count


def _write_csv(file: BinaryIO, selection: Selection) -> int:
    columns = Columns()
    for row, values in _with_metrics(selection):
        columns.add(row, values)
    place = [*PLACE_COLUMNS, *(["superseded"] if selection.superseded else [])]
    text_file = io.TextIOWrapper(file, encoding="utf-8", newline="")
    count = 0
    try:
        table = Table(text_file)
        table.write([*place, *(_heading(name, place) for name in columns.names)])
        for row, values in _with_metrics(selection):
            if columns.cover(row):
                cells = _place(row)[: len(place)]
                table.write([*cells, *map(values.get, columns.names)])
                count += 1
    finally:
        text_file.detach()
    return count


def _with_metrics(selection: Selection) -> Iterator[tuple[Row, Values]]:
    for row in selection.rows():
        values = metrics(row.data)
        if values:
            yield row, values


def _heading(name: str, place: list[str]) -> str:
    return f"metric:{name}" if name in place else name


def _place(row: Row) -> list[object]:
    data = row.data
    return [
        row.attempt,
        row.rank,
        whole(data, "step"),
        number(data, "time"),
        text(data, "type"),
        text(data, "dataset"),
        str(row.superseded).lower(),
    ]
