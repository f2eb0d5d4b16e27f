"""`hotloop tail`: the last events of a run, and then those that follow."""

import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import typer

from bus import JournalReader, Row
from runtime.cli._event_line import event_line
from runtime.cli._journal import in_order, json_line, none_found, row_of, run_state

_POLL_INTERVAL: Final = 0.2


def tail(run_dir: Path, *, types: frozenset[str], lines: int, follow: bool, as_json: bool) -> None:
    """Prints events as lines, the ranks interleaved by time.

    Args:
        run_dir: The run.
        types: Journal names of the event types wanted, none for all.
        lines: How many of the events already there.
        follow: Whether to go on until the run ends.
        as_json: Whether to print JSON objects instead of lines for people.
    """
    journal = JournalReader(run_dir)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    line = _json if as_json else partial(event_line, colour=colour)
    if follow:
        _follow(run_dir, journal, types, lines, line)
        return
    last = last_rows(journal.rows(types=types, superseded=False), lines)
    _print(last, line)
    if not last and types and lines:
        typer.echo(f"hotloop: {none_found(run_dir, types)}", err=True)


def last_rows(rows: Iterable[Row], count: int) -> list[Row]:
    """The last events over all ranks by time, holding no more than that many of each rank."""
    kept: defaultdict[tuple[int, int], deque[Row]] = defaultdict(lambda: deque(maxlen=count))
    for row in rows:
        kept[row.attempt, row.rank].append(row)
    merged = sorted((row for each in kept.values() for row in each), key=in_order)
    return merged[max(0, len(merged) - count) :]


def _follow(
    run_dir: Path,
    journal: JournalReader,
    types: frozenset[str],
    lines: int,
    line: Callable[[Row], str],
) -> None:
    _print(last_rows(_fresh(journal, types), lines), line)
    over = False
    while not over:
        # Asked before reading, so that what the run wrote last is not missed.
        over = run_state(run_dir) != "running"
        fresh = sorted(_fresh(journal, types), key=in_order)
        _print(fresh, line)
        if not over and not fresh:
            time.sleep(_POLL_INTERVAL)


def _fresh(journal: JournalReader, types: frozenset[str]) -> Iterable[Row]:
    return (
        row_of(record) for record in journal.poll() if not types or str(record.event.type) in types
    )


def _print(rows: Iterable[Row], line: Callable[[Row], str]) -> None:
    for row in rows:
        sys.stdout.write(line(row) + "\n")
    sys.stdout.flush()


def _json(row: Row) -> str:
    return json_line(row).decode()
