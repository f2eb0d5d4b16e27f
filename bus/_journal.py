"""Appends encoded events to a run's journal and survives what disks do.

Used by the writer thread, and with `durability="write"` by publishing threads too, under one lock.
No method raises for the disk: what cannot be written waits in bounded memory and is written when
the disk is back; what no longer fits there is counted and becomes a `Gap`. Files are only ever
appended to, and every process opens new ones.
"""

import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus._event import encode
from bus._events import Gap
from bus._lines import SegmentName, list_segments, pack

log = logging.getLogger("bus")

_BATCH: Final = 512
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_MARGIN: Final = 64
"""Part of the buffer that is emptied at once, because telling of a loss costs more than writing."""
_FIRST_RETRY: Final = 0.25
_LAST_RETRY: Final = 5.0
_GAP_LINE: Final = re.compile(rb'[^\n]{18}"v":\d+,"seq":\d+,"type":"gap",[^\n]*"count":(\d+)')


@dataclass(slots=True)
class _Entry:
    encoded: bytes
    time: float
    keep: bool
    gap: Gap | None = None


@dataclass(slots=True)
class _Content:
    """What a segment answers for: events that are in it, and events whose loss it tells of."""

    events: int = 0
    told: int = 0


class Journal:
    """The write side of one attempt's and rank's journal.

    Args:
        folder: Where segments live; created when first needed.
        rank: Whose events these are.
        attempt: Which turn at the run this is.
        segment_bytes: When a segment is closed and the next one opened.
        buffer_bytes: What may wait in memory while the disk refuses.
        quota_bytes: Size beyond which the oldest closed segments are unlinked; None for never.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        attempt: int,
        segment_bytes: int = 64 << 20,
        buffer_bytes: int = 16 << 20,
        quota_bytes: int | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.written = 0
        self.lost: Counter[str] = Counter()
        self.error: OSError | None = None
        self._folder = folder
        self._name = SegmentName(attempt, rank, 0)
        self._segment_bytes = segment_bytes
        self._buffer_bytes = buffer_bytes
        self._quota_bytes = quota_bytes
        self._pending: deque[_Entry] = deque()
        self._pending_bytes = 0
        self._gaps: list[Gap] = []
        self._new_gaps: list[Gap] = []
        self._fd: int | None = None
        self._size = 0
        self._seq = 0
        self._unterminated = False
        self._unsynced = False
        self._writing = False
        self._contents: dict[int, _Content] = {}
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY

    @property
    def pending(self) -> int:
        """Events encoded but not written yet, because the disk refuses."""
        return len(self._pending)

    def append(self, encoded: bytes, made: float, *, keep: bool = False) -> None:
        """Let an encoded event wait for the next `flush`; the oldest make room if memory is full.

        Args:
            encoded: What `encode` wrote.
            made: The event's time, in Unix seconds.
            keep: Never dropped for room.
        """
        with self.lock:
            self._pending.append(_Entry(encoded, made, keep))
            self._pending_bytes += len(encoded)
            if self._pending_bytes > self._buffer_bytes:
                self._make_room()

    def record_gap(self, gap: Gap) -> None:
        """Write down a loss with the next flush; losses of one reason become one gap."""
        with self.lock:
            busy, self._writing = self._writing, True
            self.lost[gap.reason] += gap.count
            self._new_gaps.append(gap)
            self._gaps = _coalesced([*self._gaps, gap])
            self._writing = busy

    def take_new_gaps(self) -> list[Gap]:
        """Remove and return the losses recorded since the last call."""
        if not self._new_gaps:
            return []
        with self.lock:
            gaps, self._new_gaps = self._new_gaps, []
        return gaps

    def flush(self, *, force: bool = False) -> bool:
        """Write what waits. Return whether nothing waits any more.

        Args:
            force: Try even if the disk refused a moment ago.
        """
        with self.lock:
            if self._writing:
                return False
            self._writing = True
            try:
                return self._flush(force=force)
            finally:
                self._writing = False

    def write_through(self, encoded: bytes, made: float, *, keep: bool = False) -> bool:
        """Append and write at once, by the publishing thread; tell whether it took the event.

        It does not when this thread is in the middle of another write, which a signal handler
        interrupted: the event then takes the writer's way.
        """
        with self.lock:
            if self._writing:
                return False
            self._writing = True
            try:
                self.append(encoded, made, keep=keep)
                self._flush(force=False)
            finally:
                self._writing = False
            return True

    def sync(self) -> None:
        """Have the disk itself store what was written, if anything is new since the last call."""
        with self.lock:
            fd = os.dup(self._fd) if self._fd is not None and self._unsynced else None
            self._unsynced = False
        if fd is None:
            return
        try:
            os.fdatasync(fd)  # outside the lock: it may take seconds
        except OSError as error:
            log.warning("the journal could not be synced to disk: %s", error)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file; what still waits is lost with the process and was counted as pending."""
        with self.lock:
            self._close_segment()

    def _flush(self, *, force: bool) -> bool:
        if not self._pending and not self._gaps:
            return True
        if self.error is not None and not force and time.monotonic() < self._retry_at:
            return False
        try:
            self._write_everything()
        except OSError as error:
            self._refused(error)
            return False
        self._accepted()
        return True

    def _make_room(self) -> None:
        kept: list[_Entry] = []
        dropped: list[_Entry] = []
        target = self._buffer_bytes - self._buffer_bytes // _MARGIN
        while self._pending and self._pending_bytes > target:
            entry = self._pending.popleft()
            (kept if entry.keep else dropped).append(entry)
            self._pending_bytes -= 0 if entry.keep else len(entry.encoded)
        self._pending.extendleft(reversed(kept))
        if dropped:
            reason = f"the disk refused: {self.error.strerror}" if self.error else "disk too slow"
            self.record_gap(
                Gap(
                    reason=reason,
                    count=len(dropped),
                    first_time=dropped[0].time,
                    last_time=dropped[-1].time,
                )
            )

    def _write_everything(self) -> None:
        self._notice_deletion()
        while self._gaps or self._pending:
            if self._fd is None or self._size >= self._segment_bytes:
                self._open_segment()
            self._queue_gaps()
            self._write_batch()

    def _queue_gaps(self) -> None:
        # The first line of an attempt stays its RunStarted, which is the first to be kept.
        place = 1 if self._seq == 0 and self._pending and self._pending[0].keep else 0
        while self._gaps:
            gap = self._gaps.pop()
            entry = _Entry(encode(gap), gap.time, keep=True, gap=gap)
            self._pending.insert(place, entry)
            self._pending_bytes += len(entry.encoded)

    def _take_gaps_back(self) -> None:
        """Let losses that could not be written grow on as one gap."""
        queued = [entry for entry in self._pending if entry.gap is not None]
        if queued:
            self._pending = deque(entry for entry in self._pending if entry.gap is None)
            self._pending_bytes -= sum(len(entry.encoded) for entry in queued)
            self._gaps = _coalesced([e.gap for e in queued if e.gap is not None] + self._gaps)

    def _write_batch(self) -> None:
        lines = [
            pack(self._seq + offset, entry.encoded)
            for offset, entry in enumerate(_first(self._pending, _BATCH), start=1)
        ]
        head = b"\n" if self._unterminated else b""
        data = head + b"".join(lines)
        assert self._fd is not None
        count = os.write(self._fd, data)
        self._size += count
        self._unsynced = True
        whole, left = 0, count - len(head)
        while whole < len(lines) and left >= len(lines[whole]):
            left -= len(lines[whole])
            whole += 1
        # After a short write the next one starts a new line; the torn one counts as damage, unless
        # only its newline is missing: then it is there, and again would be twice.
        self._unterminated = left != 0
        if whole < len(lines) and left == len(lines[whole]) - 1:
            whole += 1
        self._commit(whole)

    def _commit(self, count: int) -> None:
        self._seq += count
        self.written += count
        content = self._contents.setdefault(self._name.number, _Content())
        for _ in range(count):
            entry = self._pending.popleft()
            self._pending_bytes -= len(entry.encoded)
            if entry.gap is None:
                content.events += 1
            else:
                content.told += entry.gap.count

    def _open_segment(self) -> None:
        self._close_segment()
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        while self._fd is None:
            name = self._numbered(self._name.number + 1)
            with contextlib.suppress(FileExistsError):
                self._fd = os.open(self._folder / str(name), flags, 0o644)
            self._name = name
        self._size = 0
        self._unterminated = False
        self._count_missing()
        with contextlib.suppress(OSError):  # what cannot be removed now may be next time
            self._enforce_quota()

    def _close_segment(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _notice_deletion(self) -> None:
        if self._fd is None or os.fstat(self._fd).st_nlink > 0:
            return
        self._close_segment()
        log.warning("the journal %s was deleted while in use; going on in a new one", self._folder)

    def _count_missing(self) -> None:
        for number in list(self._contents):
            if not (self._folder / str(self._numbered(number))).exists():
                self._record_removal("journal deleted", self._contents.pop(number))

    def _record_removal(self, reason: str, content: _Content) -> None:
        """Answer from now on for what a removed segment answered for."""
        count = content.events + content.told
        if count:
            self.record_gap(Gap(reason=reason, count=count))
            self.lost[reason] -= content.told  # these were counted when they were lost

    def _numbered(self, number: int) -> SegmentName:
        return SegmentName(self._name.attempt, self._name.rank, number)

    def _enforce_quota(self) -> None:
        if self._quota_bytes is None:
            return
        segments = [s for s in list_segments(self._folder) if s.rank == self._name.rank]
        sizes = {segment: (self._folder / str(segment)).stat().st_size for segment in segments}
        total = sum(sizes.values()) + self._segment_bytes  # the new segment will fill up
        for segment in segments:
            if total <= self._quota_bytes or segment == self._name:
                return
            path = self._folder / str(segment)
            ours = segment.attempt == self._name.attempt
            content = self._contents.get(segment.number) if ours else _content_of(path)
            path.unlink(missing_ok=True)
            total -= sizes[segment]
            if ours:
                self._contents.pop(segment.number, None)
            self._record_removal("size quota", content or _Content())

    def _refused(self, error: OSError) -> None:
        self._unterminated = self._fd is not None
        if error.errno not in _FULL:
            self._close_segment()
        self._take_gaps_back()
        if self.error is None:
            log.warning(
                "the journal cannot be written (%s: %s); training goes on, events wait in memory "
                "(%d MiB at most), writing resumes when the disk allows it",
                self._folder,
                error.strerror or error,
                self._buffer_bytes >> 20,
            )
        self.error = error
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(self._retry_after * 2, _LAST_RETRY)

    def _accepted(self) -> None:
        if self.error is not None:
            log.warning("the journal can be written again (%s)", self._folder)
        self.error = None
        self._retry_after = _FIRST_RETRY


def _first(entries: deque[_Entry], count: int) -> list[_Entry]:
    return [entries[index] for index in range(min(count, len(entries)))]


def _joined(first: Gap, second: Gap) -> Gap:
    return Gap(
        time=second.time,
        reason=first.reason,
        count=first.count + second.count,
        first_time=first.first_time,
        last_time=second.last_time,
    )


def _coalesced(gaps: list[Gap]) -> list[Gap]:
    found: dict[str, Gap] = {}
    for gap in gaps:
        same = found.get(gap.reason)
        found[gap.reason] = gap if same is None else _joined(same, gap)
    return list(found.values())


def _content_of(path: Path) -> _Content:
    """What an earlier process's segment answers for, as far as its lines are whole."""
    content = _Content()
    with path.open("rb") as file:
        for line in file:
            gap = _GAP_LINE.match(line)
            content.told += int(gap[1]) if gap else 0
            content.events += not gap and line.startswith(b'{"crc":"') and line.endswith(b"}\n")
    return content
