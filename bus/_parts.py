"""Puts records together for one sink, and remembers what it leaves out between them.

A part stands for a range of the journal. What is left out of it, because a later attempt or a later
record replaced it, counts when everything before it is done, neither earlier nor twice; so a part
carries it along, however the part is cut.
"""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from bus._cursor import Counts
from bus._reader import Record
from bus._sink import Coalesces
from bus._stream import StreamName


class LeftOut(NamedTuple):
    """Lines in a row that are not sent; `seq` is the last one's."""

    seq: int
    lines: int
    why: Literal["superseded", "coalesced"]


@dataclass(frozen=True, slots=True)
class Part:
    """Records to be acknowledged together, and the range of the journal that they stand for."""

    stream: StreamName
    first: int
    last: int
    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...] = ()

    def behind(self, count: int) -> "Part | None":
        """What is left behind its first `count` records; None if nothing is."""
        rest = self.records[count:]
        return self._within(rest[0].seq, self.last, rest) if rest else None

    def without(self, guilty: Collection[int]) -> "Part | None":
        """The part without the records at these places; None if nothing is left."""
        rest = tuple(r for index, r in enumerate(self.records) if index not in guilty)
        return replace(self, records=rest) if rest else None

    def with_more(self, behind: "Part") -> "Part":
        """This part and the one that begins behind it, as one."""
        return replace(
            self,
            last=behind.last,
            records=self.records + behind.records,
            left_out=self.left_out + behind.left_out,
        )

    def halves(self) -> tuple["Part", "Part"]:
        """Two parts of its records, of which there must be two or more."""
        middle = len(self.records) // 2
        border = self.records[middle].seq
        return (
            self._within(self.first, border - 1, self.records[:middle]),
            self._within(border, self.last, self.records[middle:]),
        )

    def count_left_out(self, counts: Counts, delivered: int) -> None:
        """Everything up to `delivered` is done, what was left out of it too."""
        count(counts, (each for each in self.left_out if each.seq <= delivered))

    def _within(self, first: int, last: int, records: tuple[Record, ...]) -> "Part":
        kept = tuple(each for each in self.left_out if first <= each.seq <= last)
        return replace(self, first=first, last=last, records=records, left_out=kept)


def count(counts: Counts, left_out: Iterable[LeftOut]) -> None:
    """Add what was left out to a cursor's counts."""
    for each in left_out:
        if each.why == "superseded":
            counts.superseded += each.lines
        else:
            counts.coalesced += each.lines


@dataclass(slots=True)
class Gathering:
    """What is being put together: everything wanted up to `last`.

    Attributes:
        size: Bytes of the records in the journal.
        missing: Lines that the journal no longer has.
        sent_at: When to send it at the latest, on the event loop's clock.
    """

    coalesces: Coalesces
    last: int
    size: int = 0
    missing: int = 0
    sent_at: float = 0.0
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    _kept: dict[Hashable, tuple[Record, int]] = field(
        default_factory=dict[Hashable, tuple[Record, int]]
    )

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def records(self) -> tuple[Record, ...]:
        """In order of the journal."""
        return tuple(record for record, _ in self._kept.values())

    def add(self, record: Record, size: int) -> None:
        """Take a record in, instead of an earlier one that only told an earlier state of it."""
        key = self._key(record)
        before = self._kept.pop(key, None)
        if before is not None:
            self.left_out.append(LeftOut(before[0].seq, 1, "coalesced"))
            self.size -= before[1]
        self._kept[key] = (record, size)
        self.size += size

    def leave_out(self, seq: int) -> None:
        """A later attempt has replaced this line; rows of them become one."""
        newest, _ = next(reversed(self._kept.values()), (None, 0))
        before = self.left_out[-1] if self.left_out else None
        row = 1
        if (
            before is not None
            and before.why == "superseded"
            and (newest is None or newest.seq < before.seq)
        ):
            row += self.left_out.pop().lines
        self.left_out.append(LeftOut(seq, row, "superseded"))

    def settle(self, counts: Counts) -> None:
        """Nothing up to `last` is to be sent: what was left out counts now."""
        count(counts, self.left_out)
        self.left_out.clear()
        counts.missing += self.missing
        self.missing = 0

    def part(self, stream: StreamName, first: int, last: int | None = None) -> Part:
        """All of it, or what of it there is up to `last`."""
        end = self.last if last is None else last
        return Part(
            stream,
            first,
            end,
            tuple(record for record in self.records if record.seq <= end),
            tuple(each for each in self.left_out if each.seq <= end),
        )

    def _key(self, record: Record) -> Hashable:
        """What a later record must have in common with this one to replace it."""
        event = record.event
        for kind, fields in self.coalesces.items():
            if isinstance(event, kind):
                return (event.type, *(repr(getattr(event, name)) for name in fields))
        return record.seq
