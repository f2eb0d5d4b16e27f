"""Turns a journal into the parts that one sink is sent: what it wants, within its limits, in order.

A part remembers the range of the journal that it stands for. Its boundaries go into the cursor
before it is sent, so that a retry after a crash is sent in the same pieces.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import anyio

from bus._cursor import Cursor, Position
from bus._event import EVENT_TYPES, Event
from bus._feed import Entry, FeedReader
from bus._parts import Gathering, Part
from bus._reader import Record
from bus._sink import Sink
from bus._stream import StreamName

Disk: TypeAlias = Callable[..., Awaitable[Any]]
"""Makes a blocking call somewhere else: `await disk(function, *arguments)`."""


def names_of(wants: tuple[type[Event], ...]) -> frozenset[str] | None:
    """The types of event that a sink wants; None means all."""
    everything = any(kind is Event for kind in wants)
    return None if everything else frozenset(EVENT_TYPES.names_of(wants))


def count_waiting(reader: FeedReader, cursor: Cursor, names: frozenset[str] | None) -> int:
    """How many records of these types are left behind what has been delivered; reads the disk.

    Those that a later attempt has replaced will never be sent, and are not among them.
    """
    superseded = reader.superseded()
    return sum(
        reader.count(
            stream,
            cursor.position(stream.attempt, stream.rank).delivered,
            names,
            up_to_step=superseded.get(stream.attempt),
        )
        for stream in reader.streams()
    )


class Collector:
    """What comes next for one sink.

    Args:
        reader: Its way through the journal.
        cursor: What it has got already; positions and counts are moved on.
        sink: What it wants, how much of it at once, and what of it replaces what.
        disk: Makes calls that may wait for a disk.
    """

    def __init__(self, reader: FeedReader, cursor: Cursor, sink: Sink, disk: Disk) -> None:
        self._reader = reader
        self._cursor = cursor
        self._limits = sink.limits
        self._coalesces = sink.coalesces
        self._disk = disk
        self._names = names_of(sink.wants)
        self._superseded: dict[int, int] = {}
        self._streams: list[StreamName] = []
        self._gathering: dict[StreamName, Gathering] = {}

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
            full = len(gathering) >= self._limits.events or self._is_heavy(gathering)
            if full or all_of_it or gathering.sent_at <= anyio.current_time():
                return self._part(stream, position, gathering)
            waits.append(gathering.sent_at)
        return min(waits, default=None)

    async def lengthened(self, part: Part) -> Part | None:
        """A part that is under way and what is at hand behind it; None if nothing is."""
        gathering = Gathering(self._coalesces, part.last)
        while entries := await self._disk(self._reader.read, part.stream, gathering.last):
            if self._filled(part.stream, gathering, entries):
                break
        if not gathering:
            return None
        self._cursor.counts.missing += gathering.missing
        return part.with_more(gathering.part(part.stream, part.last + 1))

    async def count_pending(self) -> int:
        """How many records are left behind what has been delivered."""
        counted: int = await self._disk(count_waiting, self._reader, self._cursor, self._names)
        return counted

    async def _restored(self, stream: StreamName, position: Position) -> Part | None:
        """The first part that was under way when a process died."""
        first, last = position.parts[0]
        # What replaces a record of the first part may stand in a later one.
        end = position.parts[-1][1] if self._coalesces else last
        entries = await self._disk(self._reader.span, stream, first, end, self._names)
        gathering = Gathering(self._coalesces, end)
        for entry in entries:
            self._take(stream, gathering, entry)
        part = gathering.part(stream, first, last)
        if not part.records:
            position.parts.pop(0)
            position.delivered = max(position.delivered, last)
            part.count_left_out(self._cursor.counts, last)
            return None
        return part

    async def _gathered(self, stream: StreamName, position: Position) -> Gathering | None:
        """Everything at hand that is wanted, up to the limits; None if there is nothing."""
        gathering = self._gathering.get(stream)
        if gathering is None:
            gathering = Gathering(self._coalesces, position.delivered)
            self._gathering[stream] = gathering
        while entries := await self._disk(self._reader.read, stream, gathering.last):
            if self._filled(stream, gathering, entries):
                return gathering
            if not gathering:
                position.delivered = gathering.last  # nothing of it is wanted
                gathering.settle(self._cursor.counts)
        return gathering or None

    def _filled(self, stream: StreamName, gathering: Gathering, entries: Sequence[Entry]) -> bool:
        """Take entries in; tell whether a limit was reached."""
        for entry in entries:
            if gathering and self._wants(entry) and self._is_heavy(gathering, entry.size):
                return True
            gathering.missing += max(0, entry.line.seq - gathering.last - 1)
            gathering.last = entry.line.seq
            empty = not gathering
            self._take(stream, gathering, entry)
            if empty and gathering:
                gathering.sent_at = anyio.current_time() + self._limits.age
            if len(gathering) >= self._limits.events:
                return True
        return False

    def _take(self, stream: StreamName, gathering: Gathering, entry: Entry) -> None:
        """Take one entry in, if it is wanted and holds an event."""
        if not self._wants(entry):
            return
        limit = self._superseded.get(stream.attempt)
        if limit is not None and entry.step > limit:
            gathering.leave_out(entry.line.seq)
        elif (event := entry.event()) is not None:
            record = Record(stream.attempt, stream.rank, entry.line.seq, event)
            gathering.add(record, entry.size)

    def _wants(self, entry: Entry) -> bool:
        return self._names is None or entry.line.type in self._names

    def _is_heavy(self, gathering: Gathering, more: int = 0) -> bool:
        return gathering.size + more > self._limits.bytes

    def _part(self, stream: StreamName, position: Position, gathering: Gathering) -> Part:
        del self._gathering[stream]
        self._cursor.counts.missing += gathering.missing
        first = position.delivered + 1
        position.parts = [(first, gathering.last)]
        return gathering.part(stream, first)
