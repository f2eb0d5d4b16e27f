"""`hotloop status`: how a run stands, gathered in one reading of its journal."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bus import Attempt, AttemptInfo, Cursor, JournalReader, Row, RunInfo, list_cursors
from runtime.cli._fields import mapping, metrics, number, text, whole
from runtime.cli._journal import State, identity, run_state

FORMAT: Final = 1
"""Rises when a field of the JSON changes its meaning or goes away."""


@dataclass(frozen=True, kw_only=True)
class Latest:
    """A metric's newest value.

    Attributes:
        value: NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".
        time: Unix seconds.
    """

    value: float | str
    step: int | None
    time: float


@dataclass(kw_only=True)
class Lost:
    """Events lost for one reason: how many, and when the first and the last was made."""

    count: int = 0
    first_time: float | None = None
    last_time: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stall:
    """What the watchdog said when the run came to stand still.

    Attributes:
        time: When it was reported, in Unix seconds.
        seconds: How long the last safe point was ago then.
        ranks: Where to look.
    """

    time: float
    step: int | None
    kind: str
    phase: str
    seconds: float
    ranks: list[int]
    text: str


@dataclass(frozen=True, kw_only=True)
class AttemptStatus:
    """One process's turn at the run.

    Attributes:
        outcome: None while it runs; `crashed` if it was killed; `unknown` if nobody can say.
        stopped_by: Who asked for the stop that took effect, and why.
    """

    number: int
    started: float
    ended: float | None
    outcome: str | None
    error: str | None
    reason: str | None
    stopped_by: str | None
    resumed_from_step: int | None
    pid: int | None
    host: str | None


@dataclass(kw_only=True)
class Contents:
    """What the journal holds.

    Attributes:
        kept: Events by type that count, those of a superseded stretch left out.
        superseded: How many events a later attempt replaced.
        last_step: The highest step of an event that counts.
        newest: Time, step and value of each metric's newest point; a journal has millions.
        lost: What is missing, by reason.
        stops: Who stopped an attempt and why, by attempt.
        ranks: Ranks that wrote.
        stall: The last one that was reported and is not over.
    """

    kept: Counter[str] = field(default_factory=Counter[str])
    superseded: int = 0
    last_step: int | None = None
    newest: dict[str, tuple[float, int | None, float | str]] = field(
        default_factory=dict[str, tuple[float, int | None, float | str]]
    )
    lost: dict[str, Lost] = field(default_factory=dict[str, Lost])
    stops: dict[int, str] = field(default_factory=dict[int, str])
    ranks: set[int] = field(default_factory=set[int])
    stall: Stall | None = None

    def add(self, row: Row) -> None:
        """Takes one event into account."""
        kind = text(row.data, "type") or "?"
        self.ranks.add(row.rank)
        if kind == "decision_applied":
            self._note_stop(row)
        if row.superseded:
            self.superseded += 1
            return
        self.kept[kind] += 1
        step = whole(row.data, "step")
        if step is not None:
            self.last_step = max(step, self.last_step or 0)
        if kind == "gap":
            self._note_gap(row)
        self._note_stall(row, kind, step)
        self._note_metrics(row, step)

    def _note_stop(self, row: Row) -> None:
        request = mapping(row.data, "request")
        if text(request, "type") == "stop":
            words = (text(row.data, "by"), text(row.data, "reason"))
            self.stops[row.attempt] = ": ".join(word for word in words if word)

    def _note_stall(self, row: Row, kind: str, step: int | None) -> None:
        if kind in {"stall_ended", "run_started", "run_ended"}:
            self.stall = None
        elif kind == "stall_detected":
            ranks = row.data.get("ranks")
            self.stall = Stall(
                time=number(row.data, "time") or 0.0,
                step=step,
                kind=text(row.data, "kind") or "?",
                phase=text(row.data, "phase") or "?",
                seconds=number(row.data, "seconds") or 0.0,
                ranks=[each for each in ranks if type(each) is int]
                if isinstance(ranks, list)
                else [],
                text=text(row.data, "text") or "?",
            )

    def _note_gap(self, row: Row) -> None:
        lost = self.lost.setdefault(text(row.data, "reason") or "?", Lost())
        lost.count += whole(row.data, "count") or 0
        first, last = number(row.data, "first_time"), number(row.data, "last_time")
        lost.first_time = min((t for t in (first, lost.first_time) if t is not None), default=None)
        lost.last_time = max((t for t in (last, lost.last_time) if t is not None), default=None)

    def _note_metrics(self, row: Row, step: int | None) -> None:
        when = number(row.data, "time") or 0.0
        for name, value in metrics(row.data).items():
            known = self.newest.get(name)
            if known is None or known[0] <= when:
                self.newest[name] = (when, step, value)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything `hotloop status --json` prints. Times are Unix seconds."""

    format: int
    run_dir: str
    name: str | None
    id: str | None
    project: str | None
    state: State
    created: float | None
    attempts: list[AttemptStatus]
    ranks: list[int]
    last_step: int | None
    stall: Stall | None
    latest: dict[str, Latest]
    events: dict[str, int]
    superseded: int
    gaps: dict[str, Lost]
    damaged_lines: int
    journal_bytes: int
    sinks: dict[str, Cursor]
    last_write: float | None
    seconds_since_last_write: float | None


def read_status(run_dir: Path) -> Status:
    """Reads how a run stands, also while it is being written."""
    info, state = identity(run_dir), run_state(run_dir)
    journal = JournalReader(run_dir)
    attempts = journal.attempts
    contents = Contents()
    for row in journal.rows(superseded=True):
        contents.add(row)
    written = last_write(run_dir)
    return Status(
        format=FORMAT,
        run_dir=str(run_dir),
        name=info.name if info else None,
        id=info.id if info else None,
        project=info.project if info else None,
        state=state,
        created=info.created if info else None,
        attempts=[_attempt(each, attempts[-1], state, info, contents) for each in attempts],
        ranks=sorted(contents.ranks),
        last_step=contents.last_step,
        stall=contents.stall if state == "running" else None,
        latest={
            name: Latest(value=value, step=step, time=when)
            for name, (when, step, value) in contents.newest.items()
        },
        events=dict(contents.kept.most_common()),
        superseded=contents.superseded,
        gaps=contents.lost,
        damaged_lines=journal.damage,
        journal_bytes=journal.size,
        sinks=list_cursors(run_dir),
        last_write=written,
        seconds_since_last_write=None if written is None else max(0.0, time.time() - written),
    )


def last_write(run_dir: Path) -> float | None:
    """When the journal last grew, in Unix seconds by the file system's clock."""
    times: list[float] = []
    for segment in (run_dir / "journal").glob("*.jsonl"):
        try:
            times.append(segment.stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times, default=None)


def _attempt(
    attempt: Attempt, last: Attempt, state: State, info: RunInfo | None, contents: Contents
) -> AttemptStatus:
    process: AttemptInfo | None = info.attempt(attempt.number) if info else None
    outcome: str | None = attempt.outcome
    if outcome is None and attempt is last:
        outcome = None if state == "running" else state
    elif outcome is None:
        outcome = "crashed"
    return AttemptStatus(
        number=attempt.number,
        started=attempt.started,
        ended=attempt.ended,
        outcome=outcome,
        error=attempt.error,
        reason=attempt.reason,
        stopped_by=contents.stops.get(attempt.number),
        resumed_from_step=attempt.resumed_from_step,
        pid=process.pid if process else None,
        host=process.host if process else None,
    )
