"""What all deliveries of a process read: each line once, kept for a while, decoded when asked for.

A delivery that has fallen further behind than that reads the journal by itself, piece by piece, so
that memory stays flat however long a backlog is. Everything here may touch the disk.
"""

import bisect
import threading
from pathlib import Path
from typing import Final

from bus._event import Event, decode
from bus._lines import Line
from bus._options import Ranks
from bus._reader import JournalReader, step_of
from bus._rundir import JOURNAL_FOLDER
from bus._stream import StreamName, StreamReader, list_streams

_KEPT_ENTRIES: Final = 8192
_KEPT_BYTES: Final = 8 << 20


class Entry:
    """One line of the journal, which several deliveries may want as an event."""

    __slots__ = ("_event", "line", "size")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.size: int = len(line.rest)
        self._event: Event | ValueError | None = None

    @property
    def step(self) -> int:
        """The step it belongs to; -1 if to none."""
        return step_of(self.line)

    def event(self) -> Event | None:
        """Its event, decoded once; None if the line holds none."""
        if self._event is None:
            try:
                self._event = decode(self.line.encoded)
            except ValueError as error:
                self._event = error
        return self._event if isinstance(self._event, Event) else None


class _Ring:
    """The latest entries of one stream; everything beyond `since` up to the reader's last."""

    def __init__(self, folder: Path, stream: StreamName, since: int) -> None:
        self.since = since
        self.reader = StreamReader(folder, stream, since)
        self._entries: list[Entry] = []
        self._bytes = 0

    def after(self, seq: int) -> list[Entry]:
        index = bisect.bisect_right(self._entries, seq, key=lambda entry: entry.line.seq)
        return self._entries[index:]

    def extend(self) -> None:
        fresh = [Entry(line) for line in self.reader.read()]
        self._entries += fresh
        self._bytes += sum(entry.size for entry in fresh)
        while len(self._entries) > _KEPT_ENTRIES or (self._bytes > _KEPT_BYTES and self._entries):
            dropped = self._entries[: len(self._entries) // 2 + 1]
            self._entries = self._entries[len(dropped) :]
            self._bytes -= sum(entry.size for entry in dropped)
            self.since = dropped[-1].line.seq


class _Behind:
    """What one delivery reads by itself because it has fallen behind."""

    def __init__(self, reader: StreamReader, since: int) -> None:
        self.since = since
        self._reader = reader
        self._entries: list[Entry] = []

    def after(self, seq: int) -> list[Entry]:
        self.since = seq
        self._entries = [entry for entry in self._entries if entry.line.seq > seq]
        if not self._entries:
            self._entries = [Entry(line) for line in self._reader.read()]
        return self._entries


class Feed:
    """The journal of one run, shared by the deliveries of a process."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / JOURNAL_FOLDER
        self._rings: dict[StreamName, _Ring] = {}
        self._lock = threading.Lock()

    def streams(self) -> list[StreamName]:
        """Whose events there are, oldest attempt first."""
        return list_streams(self.folder)

    def superseded(self) -> dict[int, int]:
        """For each attempt the step beyond which a later one replaced it."""
        return JournalReader(self.run_dir).superseded_beyond()

    def shared(self, stream: StreamName, after: int) -> list[Entry] | None:
        """Entries behind `after`, as far as they are at hand; None if they are no longer kept."""
        with self._lock:
            ring = self._rings.get(stream)
            if ring is None:
                ring = self._rings[stream] = _Ring(self.folder, stream, after)
            if after < ring.since:
                return None
            return ring.after(after) or self._extended(ring, after)

    def _extended(self, ring: _Ring, after: int) -> list[Entry] | None:
        ring.extend()
        # What was just read is not kept if it alone is more than may be.
        return None if after < ring.since else ring.after(after)


class FeedReader:
    """One delivery's way through a feed.

    Args:
        feed: What it reads.
        ranks: Whose events: those of rank 0 alone, or of "all".
    """

    def __init__(self, feed: Feed, ranks: Ranks = "zero") -> None:
        self._feed = feed
        self._ranks: Ranks = ranks
        self._behind: dict[StreamName, _Behind] = {}

    def streams(self) -> list[StreamName]:
        """Whose events there are, oldest attempt first."""
        streams = self._feed.streams()
        return [each for each in streams if self._ranks == "all" or each.rank == 0]

    def superseded(self) -> dict[int, int]:
        """For each attempt the step beyond which a later one replaced it."""
        return self._feed.superseded()

    def read(self, stream: StreamName, after: int) -> list[Entry]:
        """Some of the entries behind `after`, in order; none if there is nothing new yet."""
        shared = self._feed.shared(stream, after)
        if shared is not None:
            self._behind.pop(stream, None)
            return shared
        behind = self._behind.get(stream)
        if behind is None or after < behind.since:
            reader = StreamReader(self._feed.folder, stream, after)
            behind = self._behind[stream] = _Behind(reader, after)
        return behind.after(after)

    def span(
        self, stream: StreamName, first: int, last: int, names: frozenset[str] | None
    ) -> list[Entry]:
        """The entries of these types from one `seq` to another, both included, if they still exist.

        Args:
            stream: Of which attempt and rank.
            first: The first one's `seq`.
            last: The last one's.
            names: Types of event; None means all.
        """
        reader = StreamReader(self._feed.folder, stream, first - 1)
        found: list[Entry] = []
        while lines := reader.read():
            wanted = (line for line in lines if names is None or line.type in names)
            found += [Entry(line) for line in wanted if line.seq <= last]
            if reader.last >= last:
                break
        return found

    def count(
        self,
        stream: StreamName,
        after: int,
        names: frozenset[str] | None,
        *,
        up_to_step: int | None = None,
    ) -> int:
        """How many lines there are behind `after`.

        Args:
            stream: Of which attempt and rank.
            after: A `seq`.
            names: Types of event; None means all.
            up_to_step: Lines of later steps do not count; None means that they do.
        """
        reader = StreamReader(self._feed.folder, stream, after)
        counted = 0
        while lines := reader.read():
            wanted = (line for line in lines if names is None or line.type in names)
            counted += sum(up_to_step is None or step_of(line) <= up_to_step for line in wanted)
        return counted
