"""How far `hotloop sync` is: a bar for each sink on a terminal, now and then a line elsewhere.

What is said on the way goes to standard error; the table of what came of it, to standard output.
"""

import sys
import time
from pathlib import Path
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bus import SinkAccount
from runtime.cli._output import printable, show

_EVERY: Final = 10.0
"""Seconds between two lines about a sink where there is no terminal."""


class SyncProgress:
    """Shows how far each sink of one run is, and at the end what came of it.

    Args:
        folder: The run's.
        quiet: Show nothing at all.
    """

    def __init__(self, folder: Path, *, quiet: bool) -> None:
        self._folder = folder
        self._quiet = quiet
        self._accounts: dict[str, SinkAccount] = {}
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._on_terminal = not quiet and sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _EventsColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,  # the table takes its place
            disable=not self._on_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        if not self._quiet and self._accounts:
            show(self._table())

    def tell(self, account: SinkAccount) -> None:
        """Take note of how far a sink is."""
        self._accounts[account.name] = account
        done = account.delivered + account.dead + account.coalesced + account.missing
        total = None if account.pending is None else done + account.pending
        if account.name not in self._tasks:
            # What was delivered before says nothing about how fast it goes now.
            self._tasks[account.name] = self._progress.add_task(
                printable(account.name), completed=done, total=total, status=account.status
            )
        task = self._tasks[account.name]
        self._progress.update(task, completed=done, total=total, status=account.status)
        if not self._on_terminal and not self._quiet:
            self._say(account, self._progress.tasks[task])

    def _say(self, account: SinkAccount, task: Task) -> None:
        now = time.monotonic()
        if account.pending is None or now - self._said.get(account.name, -_EVERY) < _EVERY:
            return
        self._said[account.name] = now
        left = task.time_remaining
        rest = "" if left is None or task.finished else f", {left:,.0f} s left"
        line = f"{printable(account.name)}: {_amount(task)}{rest} ({account.status})"
        sys.stderr.write(line + "\n")

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for heading in (str(self._folder), "state", "delivered", "waiting", "refused", ""):
            table.add_column(heading)
        for each in self._accounts.values():
            table.add_row(
                each.name,
                each.status,
                f"{each.delivered:,}",
                "" if each.pending is None else f"{each.pending:,}",
                f"{each.dead:,}" if each.dead else "",
                printable(each.url or each.reason),
            )
        return table


class _EventsColumn(TextColumn):
    """Events delivered, of how many, and how fast."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(_amount(task))


def _amount(task: Task) -> str:
    total = "" if task.total is None else f" of {task.total:,.0f}"
    speed = task.finished_speed or task.speed
    rate = "" if speed is None else f", {speed:,.0f}/s"
    return f"{task.completed:,.0f}{total} events{rate}"
