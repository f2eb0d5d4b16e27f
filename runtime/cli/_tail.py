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
from runtime.cli._journal import in_order, json_line, none_found, run_state

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
    last = Last(lines)
    for row in journal.rows(types=types, superseded=True):
        last.add(row)
    _print(last.rows(), line)
    if follow:
        _follow(run_dir, journal, types, line)
    elif not last.seen and types:
        typer.echo(f"hotloop: {none_found(run_dir, types)}", err=True)


class Last:
    """The last events over all ranks by time, holding no more than that many of each rank."""

    def __init__(self, count: int) -> None:
        self.seen = False
        self._count = count
        self._kept: defaultdict[tuple[int, int], deque[Row]] = defaultdict(
            lambda: deque(maxlen=count)
        )

    def add(self, row: Row) -> None:
        """Takes note of an event, in the order of its rank's journal."""
        self.seen = True
        if not row.superseded:
            self._kept[row.attempt, row.rank].append(row)

    def rows(self) -> list[Row]:
        """The last of those that no later attempt replaced."""
        merged = sorted((row for each in self._kept.values() for row in each), key=in_order)
        return merged[max(0, len(merged) - self._count) :]


def _follow(
    run_dir: Path,
    journal: JournalReader,
    types: frozenset[str],
    line: Callable[[Row], str],
) -> None:
    over = False
    while not over:
        # Asked before reading, so that what the run wrote last is not missed.
        over = run_state(run_dir) != "running"
        fresh = journal.poll_rows(types=types)
        _print(sorted(fresh, key=in_order), line)
        if not over and not fresh:
            time.sleep(_POLL_INTERVAL)


def _print(rows: Iterable[Row], line: Callable[[Row], str]) -> None:
    for row in rows:
        sys.stdout.write(line(row) + "\n")
    sys.stdout.flush()


def _json(row: Row) -> str:
    return json_line(row).decode()
