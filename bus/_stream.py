"""Reads one attempt's journal of one rank from a given place on, a bounded piece at a time.

For deliveries, which go on from where they stopped and must not hold a whole backlog in memory.
Like every reader it takes no lock; nothing in a file makes it raise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus._lines import Line, SegmentName, list_segments, unpack

PIECE: Final = 1 << 18
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True, order=True)
class StreamName:
    """Whose events: one process's turn at the run."""

    attempt: int
    rank: int


def list_streams(folder: Path) -> list[StreamName]:
    """The streams in a journal folder, oldest attempt first."""
    return sorted({StreamName(name.attempt, name.rank) for name in list_segments(folder)})


class StreamReader:
    """Reads a stream's lines in order.

    Attributes:
        last: The highest `seq` returned, or passed over.
        damage: Lines that could not be read.

    Args:
        folder: The journal's folder.
        stream: Whose events.
        after: Only events with a higher `seq`.
    """

    def __init__(self, folder: Path, stream: StreamName, after: int = 0) -> None:
        self.last: int = after
        self.damage: int = 0
        self._folder = folder
        self._stream = stream
        self._segment: SegmentName | None = None
        self._offset = 0
        self._rest = b""

    def read(self) -> list[Line]:
        """The next lines; none if there is nothing new yet."""
        while True:
            segments = self._segments()
            if self._segment is None and not self._start(segments):
                return []
            assert self._segment is not None
            following = [name for name in segments if name > self._segment]
            piece = self._piece()
            lines = self._lines(piece)
            if not piece and following:  # nothing can follow in this one
                lines = self._torn()
                self._segment, self._offset = following[0], 0
            if lines or (not piece and not following):
                return lines

    def _segments(self) -> list[SegmentName]:
        mine = (self._stream.attempt, self._stream.rank)
        return [name for name in list_segments(self._folder) if (name.attempt, name.rank) == mine]

    def _start(self, segments: list[SegmentName]) -> bool:
        """Go to the last segment that begins before what is looked for."""
        for name in reversed(segments):
            first = self._first_seq(name)
            if name == segments[0] or (first is not None and first <= self.last + 1):
                self._segment = name
                return True
        return False

    def _first_seq(self, name: SegmentName) -> int | None:
        try:
            with (self._folder / str(name)).open("rb") as file:
                line = unpack(file.readline().rstrip(b"\n"))
        except OSError:
            return None
        return None if line is None else line.seq

    def _piece(self) -> bytes:
        try:
            with (self._folder / str(self._segment)).open("rb") as file:
                file.seek(self._offset)
                piece = file.read(PIECE)
        except OSError:
            return b""  # unlinked by a quota, or unreadable: go on with what follows
        self._offset += len(piece)
        return piece

    def _lines(self, piece: bytes) -> list[Line]:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return self._unpacked(whole)

    def _torn(self) -> list[Line]:
        rest, self._rest = self._rest, b""
        return self._unpacked([rest])

    def _unpacked(self, raws: list[bytes]) -> list[Line]:
        lines: list[Line] = []
        for raw in raws:
            line = unpack(raw)
            if line is None:
                self.damage += bool(raw)
            elif line.seq > self.last:  # not one written again after a short write
                self.last = line.seq
                lines.append(line)
        return lines
