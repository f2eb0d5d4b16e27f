"""Reads a run's journal, also while it is being written; takes no lock and writes nothing.

A line that is not terminated means *not yet* at the end of a rank's newest segment; anywhere else
it is damage unless its checksum says that it is whole. What a later attempt replaced is left out
unless asked for. No content of a file makes reading raise.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import orjson
from pydantic import JsonValue
from pydantic_core import from_json

from bus._errors import RunNotFoundError
from bus._event import EVENT_TYPES, Event, decode
from bus._events import Outcome, RunEnded, RunStarted
from bus._lines import Line, SegmentName, list_segments, unpack
from bus._rundir import JOURNAL_FOLDER, RunInfo

_CHUNK: Final = 1 << 20
_LONG_NUMBER: Final = re.compile(rb"\d{19}")


@dataclass(frozen=True, slots=True)
class Record:
    """An event and its place in the journal."""

    attempt: int
    rank: int
    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Row:
    """A line's JSON and its place, for readers of millions.

    Attributes:
        superseded: Whether a later attempt replaced it.
        data: The event's fields; NaN and infinities are the strings "NaN", "Infinity" and
            "-Infinity".
    """

    attempt: int
    rank: int
    seq: int
    superseded: bool
    data: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One process's turn at the run, as its journal tells it.

    Attributes:
        started: In Unix seconds.
        ended: None while it runs, and if it was killed.
        outcome: None while it runs, and if it was killed.
    """

    number: int
    started: float
    resumed_from_step: int | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    error: str | None = None
    reason: str | None = None


class _Tail:
    """Reads one segment from where it stopped last; keeps an unterminated line for later."""

    def __init__(self, folder: Path, name: SegmentName) -> None:
        self.damage = 0
        self.name = name
        self._path = folder / str(name)
        self._offset = 0
        self._rest = b""

    def lines(self, *, final: bool) -> Iterator[Line]:
        """What is new; `final` when nothing can follow, which makes a torn line damage."""
        for chunk in self._chunks():
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for raw in whole:
                line = unpack(raw)
                if line is not None:
                    yield line
                elif raw:
                    self.damage += 1
        if final and self._rest:
            last, self._rest = unpack(self._rest), b""
            if last is not None:
                yield last
            else:
                self.damage += 1

    def event(self, line: Line) -> Event | None:
        """The event of a line; None, counted as damage, for a right checksum over no event."""
        try:
            return decode(line.encoded)
        except ValueError:
            self.damage += 1
            return None

    def data(self, line: Line) -> dict[str, JsonValue] | None:
        """The JSON object of a line; None, counted as damage, for a right checksum over none."""
        try:
            return _parse(line.json)
        except ValueError:
            self.damage += 1
            return None

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while chunk := file.read(_CHUNK):
                    self._offset += len(chunk)
                    yield chunk
        except FileNotFoundError:
            return  # unlinked by a quota or by hand between listing and reading


class JournalReader:
    """The journal of the run in `run_dir`.

    Raises:
        RunNotFoundError: There is no such folder, or neither run.json nor a journal in it.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = Path(run_dir)
        self._folder = self._run_dir / JOURNAL_FOLDER
        self._tails: dict[SegmentName, _Tail] = {}
        self._last: dict[tuple[int, int], int] = {}
        if not self._folder.is_dir():
            RunInfo.load(self._run_dir)

    @property
    def damage(self) -> int:
        """Damaged lines met in the latest reading to the end; they were skipped."""
        return sum(tail.damage for tail in self._tails.values())

    @property
    def size(self) -> int:
        """Bytes the journal occupies now."""
        paths = (self._folder / str(name) for name in list_segments(self._folder))
        return sum(path.stat().st_size for path in paths if path.exists())

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt, oldest first; what the journal lost is filled in from run.json."""
        known = {number: Attempt(number, 0.0) for number in self._attempt_numbers()}
        info = self._info()
        for each in info.attempts if info else ():
            known[each.number] = Attempt(
                each.number,
                each.started,
                each.resumed_from_step,
                each.ended,
                each.outcome,
                each.error,
                each.reason,
            )
        for number, record in self._first_records():
            if isinstance(record, RunStarted):
                known[number] = replace(
                    known.get(number, Attempt(number, 0.0)),
                    started=record.time,
                    resumed_from_step=record.resumed_from_step,
                )
        for number, event in self._ends():
            known[number] = replace(
                known.get(number, Attempt(number, 0.0)),
                ended=event.time,
                outcome=event.outcome,
                error=event.error,
                reason=event.reason,
            )
        return tuple(known[number] for number in sorted(known))

    def records(
        self, *, types: tuple[type[Event], ...] = (), superseded: bool = False
    ) -> Iterator[Record]:
        """Every event, attempt by attempt, rank by rank, in order of appending.

        Args:
            types: Only events of these classes and their subclasses; none means all.
            superseded: Also those that a later attempt replaced.
        """
        names = EVENT_TYPES.names_of(types) if types else None
        for tail, _, line in self._read(types=names, superseded=superseded):
            event = tail.event(line)
            if event is not None:
                yield Record(tail.name.attempt, tail.name.rank, line.seq, event)

    def rows(self, *, types: Collection[str] = (), superseded: bool = True) -> Iterator[Row]:
        """Like `records`, as plain JSON and several times as fast.

        Args:
            types: Only events of these types, by name; none means all.
            superseded: Also those that a later attempt replaced, marked so.
        """
        for tail, replaced, line in self._read(types=types or None, superseded=superseded):
            data = tail.data(line)
            if data is not None:
                yield Row(tail.name.attempt, tail.name.rank, line.seq, replaced, data)

    def poll(self) -> list[Record]:
        """What was appended since the last reading to the end, by whichever method.

        The first call on a new reader returns everything. Superseded events are included: a
        reader that follows has seen them already.
        """
        found: list[Record] = []
        for tail, line in self._new_lines():
            event = tail.event(line)
            if event is not None:
                found.append(Record(tail.name.attempt, tail.name.rank, line.seq, event))
        return found

    def poll_rows(self, *, types: Collection[str] = ()) -> list[Row]:
        """Like `poll`, as plain JSON and several times as fast; `types` as in `rows`."""
        found: list[Row] = []
        for tail, line in self._new_lines():
            data = tail.data(line) if not types or line.type in types else None
            if data is not None:
                found.append(Row(tail.name.attempt, tail.name.rank, line.seq, False, data))
        return found

    def _new_lines(self) -> Iterator[tuple[_Tail, Line]]:
        segments = list_segments(self._folder)
        newest = _newest(segments)
        for name in segments:
            tail = self._tails.setdefault(name, _Tail(self._folder, name))
            for line in tail.lines(final=name not in newest):
                if _is_new(self._last, tail, line):
                    yield tail, line

    def _read(
        self, *, types: Collection[str] | None, superseded: bool
    ) -> Iterator[tuple[_Tail, bool, Line]]:
        limits = self.superseded_beyond()
        segments = list_segments(self._folder)
        newest = _newest(segments)
        tails = {name: _Tail(self._folder, name) for name in segments}
        last: dict[tuple[int, int], int] = {}
        for name, tail in tails.items():
            limit = limits.get(name.attempt)
            for line in tail.lines(final=name not in newest):
                if not _is_new(last, tail, line) or (types is not None and line.type not in types):
                    continue
                replaced = limit is not None and step_of(line) > limit
                if superseded or not replaced:
                    yield tail, replaced, line
        # Only now, because several readings may be under way at once.
        self._tails, self._last = tails, last

    def superseded_beyond(self) -> dict[int, int]:
        """For each attempt the step beyond which a later one replaced it."""
        starts = {
            number: event.resumed_from_step
            for number, event in self._first_records()
            if isinstance(event, RunStarted)
        }
        info = self._info()
        for each in info.attempts if info else ():
            starts.setdefault(each.number, each.resumed_from_step)
        limits: dict[int, int] = {}
        lowest: int | None = None
        for number in sorted({*starts, *self._attempt_numbers()}, reverse=True):
            if lowest is not None:
                limits[number] = lowest
            step = starts.get(number)
            if step is not None:
                lowest = step if lowest is None else min(lowest, step)
        return limits

    def _first_records(self) -> Iterator[tuple[int, Event]]:
        """The first event of each attempt's first rank, where it still exists."""
        seen: set[int] = set()
        for name in list_segments(self._folder):
            if name.attempt not in seen:
                seen.add(name.attempt)
                tail = _Tail(self._folder, name)
                line = next(tail.lines(final=False), None)
                event = tail.event(line) if line is not None else None
                if event is not None:
                    yield name.attempt, event

    def _ends(self) -> Iterator[tuple[int, RunEnded]]:
        """How each attempt ended, from the end of its last segment."""
        last = {(name.attempt, name.rank): name for name in list_segments(self._folder)}
        for name in last.values():
            tail = _Tail(self._folder, name)
            for raw in _last_lines(self._folder / str(name)):
                line = unpack(raw) if b'"type":"run_ended"' in raw else None
                event = tail.event(line) if line is not None else None
                if isinstance(event, RunEnded):
                    yield name.attempt, event

    def _attempt_numbers(self) -> set[int]:
        return {name.attempt for name in list_segments(self._folder)}

    def _info(self) -> RunInfo | None:
        try:
            return RunInfo.load(self._run_dir)
        except RunNotFoundError:
            return None


def _last_lines(path: Path) -> list[bytes]:
    """The lines in a file's last megabyte, far more than what follows the end of a run."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _CHUNK))
            return file.read().split(b"\n")
    except FileNotFoundError:
        return []


def _newest(segments: list[SegmentName]) -> set[SegmentName]:
    return set({name.rank: name for name in segments}.values())


def _is_new(last: dict[tuple[int, int], int], tail: _Tail, line: Line) -> bool:
    """Tell a line from one written again after a write of which only a part arrived."""
    writer = (tail.name.attempt, tail.name.rank)
    if line.seq <= last.get(writer, 0):
        return False
    last[writer] = line.seq
    return True


def step_of(line: Line) -> int:
    """The step of a line's event; -1 if it has none."""
    try:
        step = _parse(line.json).get("step")
    except ValueError:
        return -1
    return step if isinstance(step, int) else -1


def _parse(encoded: bytes) -> dict[str, JsonValue]:
    # orjson is the faster one, but makes a float of an integer beyond 64 bits.
    parse = from_json if _LONG_NUMBER.search(encoded) else orjson.loads
    data = cast("object", parse(encoded))
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the bytes are wrong, not the type
    return cast("dict[str, JsonValue]", data)
