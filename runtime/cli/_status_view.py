"""How a run's status looks in a terminal."""

import time
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bus import Cursor
from runtime.cli._fields import brief
from runtime.cli._output import printable
from runtime.cli._status import AttemptStatus, Lost, Status

_STATE_STYLES: Final = {
    "running": "bold cyan",
    "finished": "bold green",
    "stopped": "bold yellow",
    "preempted": "bold yellow",
    "failed": "bold red",
    "crashed": "bold red",
}
_HEALTH_STYLES: Final = {
    "delivering": "cyan",
    "finished": "green",
    "backing off": "yellow",
    "suspended": "red",
}
_METRICS_SHOWN: Final = 40


def view(status: Status) -> list[RenderableType]:
    """The tables of `hotloop status`, one below the other."""
    parts: list[RenderableType] = [_head(status), _attempts(status)]
    if status.latest:
        parts.append(_metrics(status))
    if status.events:
        parts.append(_events(status))
    if status.gaps:
        parts.append(_gaps(status.gaps))
    if status.sinks:
        parts.append(_sinks(status.sinks))
    return parts


def _head(status: Status) -> Table:
    grid = Table.grid(padding=(0, 2))
    name = printable(status.name or status.run_dir)
    grid.add_row("run", Text(name, style="bold"))
    grid.add_row("state", Text(status.state, style=_STATE_STYLES.get(status.state, "")))
    grid.add_row("folder", Text(printable(status.run_dir)))
    if status.project:
        grid.add_row("project", Text(printable(status.project)))
    if status.id is None:
        grid.add_row("identity", Text("run.json is missing or unreadable", style="red"))
    grid.add_row("last step", "none yet" if status.last_step is None else str(status.last_step))
    if status.stall is not None:
        stall = status.stall
        since = duration(time.time() - stall.time + stall.seconds)
        words = f"for {since}, in phase {stall.phase}: {stall.text}"
        grid.add_row("stands still", Text(printable(words), style="bold red"))
    grid.add_row("journal", _journal_size(status))
    damage = Text(f"{status.damaged_lines} damaged lines skipped", style="red")
    grid.add_row("damage", damage if status.damaged_lines else "none")
    if not status.gaps:
        grid.add_row("gaps", "none")
    return grid


def _journal_size(status: Status) -> str:
    text = size(status.journal_bytes)
    if len(status.ranks) > 1:
        text += f" from {len(status.ranks)} ranks"
    if status.seconds_since_last_write is not None:
        text += f", last write {duration(status.seconds_since_last_write)} ago"
    return text


def _attempts(status: Status) -> Table:
    table = _table("attempt", "began", "lasted", "from step", "outcome", "because")
    for attempt in status.attempts:
        outcome = attempt.outcome or "running"
        table.add_row(
            str(attempt.number),
            moment(attempt.started),
            _lasted(attempt),
            "" if attempt.resumed_from_step is None else str(attempt.resumed_from_step),
            Text(outcome, style=_STATE_STYLES.get(outcome, "")),
            Text(_because(attempt)),
        )
    return table


def _because(attempt: AttemptStatus) -> str:
    """The error, or who stopped it and why; where it runs while it does."""
    if attempt.outcome is None and attempt.pid is not None:
        return f"pid {attempt.pid} on {printable(attempt.host or '?')}"
    words = [word for word in (attempt.error, attempt.stopped_by or attempt.reason) if word]
    return printable("; ".join(words))


def _lasted(attempt: AttemptStatus) -> str:
    return "" if attempt.ended is None else duration(attempt.ended - attempt.started)


def _metrics(status: Status) -> Table:
    table = _table("metric", "latest", "step")
    for name, latest in list(status.latest.items())[:_METRICS_SHOWN]:
        step = "" if latest.step is None else str(latest.step)
        table.add_row(Text(printable(name)), Text(brief(latest.value)), step)
    hidden = len(status.latest) - _METRICS_SHOWN
    if hidden > 0:
        table.add_row(Text(f"{hidden} more, see --json", style="dim"), "", "")
    return table


def _events(status: Status) -> Table:
    table = _table("event", "kept")
    for kind, count in status.events.items():
        table.add_row(Text(printable(kind)), f"{count:,}")
    if status.superseded:
        replaced = Text("replaced by a later attempt", style="dim")
        table.add_row(replaced, f"{status.superseded:,}")
    return table


def _gaps(gaps: dict[str, Lost]) -> Table:
    table = _table("lost because", "events", "first", "last")
    for reason, lost in gaps.items():
        table.add_row(
            Text(printable(reason), style="red"),
            f"{lost.count:,}",
            moment(lost.first_time),
            moment(lost.last_time),
        )
    return table


def _sinks(cursors: dict[str, Cursor]) -> Table:
    table = _table("sink", "health", "since", "delivered", "refused", "because")
    for name, cursor in cursors.items():
        health = cursor.health
        table.add_row(
            Text(printable(name)),
            Text(health.status, style=_HEALTH_STYLES.get(health.status, "")),
            moment(health.since),
            f"{cursor.counts.delivered:,}",
            f"{cursor.counts.dead:,}" if cursor.counts.dead else "",
            Text(printable(health.reason or health.url or "")),
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        numeric = heading in {"latest", "step", "kept", "events", "from step"}
        table.add_column(heading, justify="right" if numeric else "left")
    return table


def moment(seconds: float | None) -> str:
    """A time of day for people, local; empty if unknown."""
    if not seconds:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: int) -> str:
    """A number of bytes in a readable unit of 1000s."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
