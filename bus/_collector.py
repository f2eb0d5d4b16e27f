"""Turns a journal into the parts that one sink is sent: what it wants, within its limits, in order.

A part remembers the range of the journal that it stands for. Its boundaries go into the cursor
before it is sent, so that a retry after a crash is sent in the same pieces.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import anyio

from bus._cursor import Cursor, Position
from bus._event import EVENT_TYPES, Event
from bus._feed import Entry, FeedReader
from bus._reader import Record
from bus._sink import BatchLimits
from bus._stream import StreamName

Disk: TypeAlias = Callable[..., Awaitable[Any]]
"""Makes a blocking call somewhere else: `await disk(function, *arguments)`."""


@dataclass(frozen=True, slots=True)
class Part:
    """Records to be acknowledged together, and the range of the journal that they stand for."""

    stream: StreamName
    first: int
    last: int
    records: tuple[Record, ...]

    def behind(self, count: int) -> "Part | None":
        """What is left behind its first `count` records; None if nothing is."""
        rest = self.records[count:]
        return replace(self, first=rest[0].seq, records=rest) if rest else None

    def without(self, guilty: Collection[int]) -> "Part | None":
        """The part without the records at these places; None if nothing is left."""
        rest = tuple(r for index, r in enumerate(self.records) if index not in guilty)
        return replace(self, records=rest) if rest else None

    def halves(self) -> tuple["Part", "Part"]:
        """Two parts of its records, of which there must be two or more."""
        middle = len(self.records) // 2
        border = self.records[middle].seq
        return (
            replace(self, last=border - 1, records=self.records[:middle]),
            replace(self, first=border, records=self.records[middle:]),
        )


@dataclass(slots=True)
class _Gathering:
    """What is being put together: everything wanted up to `last`."""

    last: int
    records: list[Record] = field(default_factory=list[Record])
    size: int = 0
    sent_at: float = 0.0


def names_of(wants: tuple[type[Event], ...]) -> frozenset[str] | None:
    """The types of event that a sink wants; None means all."""
    everything = any(kind is Event for kind in wants)
    return None if everything else frozenset(EVENT_TYPES.names_of(wants))


def count_waiting(reader: FeedReader, cursor: Cursor, names: frozenset[str] | None) -> int:
    """How many records of these types are left behind what has been delivered; reads the disk."""
    return sum(
        reader.count(stream, cursor.position(stream.attempt, stream.rank).delivered, names)
        for stream in reader.streams()
    )


class Collector:
    """What comes next for one sink.

    Args:
        reader: Its way through the journal.
        cursor: What it has got already; positions and counts are moved on.
        wants: Event classes it is given.
        limits: How much of them at once.
        disk: Makes calls that may wait for a disk.
    """

    def __init__(
        self,
        reader: FeedReader,
        cursor: Cursor,
        wants: tuple[type[Event], ...],
        limits: BatchLimits,
        disk: Disk,
    ) -> None:
        self._reader = reader
        self._cursor = cursor
        self._limits = limits
        self._disk = disk
        self._names = names_of(wants)
        self._superseded: dict[int, int] = {}
        self._streams: list[StreamName] = []
        self._gathering: dict[StreamName, _Gathering] = {}

    async def next(self, *, all_of_it: bool) -> Part | float | None:
        """The next part.

        Args:
            all_of_it: Take what is there without waiting for more.

        Returns:
            A part; the time on the loop's clock at which one will be old enough to be sent;
            or None if there is nothing.
        """
        streams: list[StreamName] = await self._disk(self._reader.streams)
        if streams != self._streams:
            self._superseded = await self._disk(self._reader.superseded)
            self._streams = streams
        waits: list[float] = []
        for stream in streams:
            position = self._cursor.position(stream.attempt, stream.rank)
            while position.parts:
                if (part := await self._restored(stream, position)) is not None:
                    return part
            gathering = await self._gathered(stream, position)
            if gathering is None:
                continue
            full = len(gathering.records) >= self._limits.events or self._is_heavy(gathering)
            if full or all_of_it or gathering.sent_at <= anyio.current_time():
                return self._part(stream, position, gathering)
            waits.append(gathering.sent_at)
        return min(waits, default=None)

    async def count_pending(self) -> int:
        """How many records are left behind what has been delivered."""
        counted: int = await self._disk(count_waiting, self._reader, self._cursor, self._names)
        return counted

    async def _restored(self, stream: StreamName, position: Position) -> Part | None:
        """The first part that was under way when a process died."""
        first, last = position.parts[0]
        entries = await self._disk(self._reader.span, stream, first, last)
        records = [record for entry in entries if (record := self._record(stream, entry))]
        if not records:
            position.parts.pop(0)
            position.delivered = max(position.delivered, last)
            return None
        return Part(stream, first, last, tuple(records))

    async def _gathered(self, stream: StreamName, position: Position) -> _Gathering | None:
        """Everything at hand that is wanted, up to the limits; None if there is nothing."""
        gathering = self._gathering.get(stream)
        if gathering is None:
            gathering = self._gathering[stream] = _Gathering(position.delivered)
        while entries := await self._disk(self._reader.read, stream, gathering.last):
            if self._filled(stream, gathering, entries):
                return gathering
            if not gathering.records:
                position.delivered = gathering.last  # nothing of it is wanted
        return gathering if gathering.records else None

    def _filled(self, stream: StreamName, gathering: _Gathering, entries: Sequence[Entry]) -> bool:
        """Take entries in; tell whether a limit was reached."""
        for entry in entries:
            wanted = self._names is None or entry.line.type in self._names
            if wanted and gathering.records and self._is_heavy(gathering, entry.size):
                return True
            self._cursor.counts.missing += max(0, entry.line.seq - gathering.last - 1)
            gathering.last = entry.line.seq
            record = self._record(stream, entry)
            if record is None:
                continue
            if not gathering.records:
                gathering.sent_at = anyio.current_time() + self._limits.age
            gathering.records.append(record)
            gathering.size += entry.size
            if len(gathering.records) >= self._limits.events:
                return True
        return False

    def _is_heavy(self, gathering: _Gathering, more: int = 0) -> bool:
        return gathering.size + more > self._limits.bytes

    def _record(self, stream: StreamName, entry: Entry) -> Record | None:
        if self._names is not None and entry.line.type not in self._names:
            return None
        limit = self._superseded.get(stream.attempt)
        if limit is not None and entry.step > limit:
            self._cursor.counts.superseded += 1
            return None
        event = entry.event()
        return None if event is None else Record(stream.attempt, stream.rank, entry.line.seq, event)

    def _part(self, stream: StreamName, position: Position, gathering: _Gathering) -> Part:
        del self._gathering[stream]
        first = position.delivered + 1
        position.parts = [(first, gathering.last)]
        return Part(stream, first, gathering.last, tuple(gathering.records))
