"""The journal's file format: one line an event, its checksum first, named by rank and attempt.

```
journal/rank0-a1-000001.jsonl
{"crc":"9a3f01bc","v":1,"seq":17,"type":"metrics_logged","time":1795233363.4,"step":3,...}
```

`crc` is zlib's CRC-32 over everything that follows its comma, the newline excluded. `seq` counts
from 1 without holes within one attempt and rank. Everything is plain JSON, for `tail -f` and `jq`.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus._event import SCHEMA_VERSION

_HEAD: Final = len(b'{"crc":"00000000",')
_NAME: Final = re.compile(r"rank(\d+)-a(\d+)-(\d+)\.jsonl")
_REST: Final = re.compile(rb'"v":(\d+),"seq":(\d+),"type":("(?:[^"\\]|\\.)*")')


def pack(seq: int, encoded: bytes) -> bytes:
    """Make the line of an encoded event, newline included."""
    rest = b'"v":%d,"seq":%d,%b' % (SCHEMA_VERSION, seq, encoded[1:])
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


@dataclass(frozen=True, slots=True)
class Line:
    """One undamaged line.

    Attributes:
        seq: Its position in the attempt and rank.
        type: The event's type.
        rest: The line behind its checksum, as it was written.
        start: Where the event's own fields begin in `rest`.
    """

    seq: int
    type: str
    rest: bytes
    start: int

    @property
    def encoded(self) -> bytes:
        """The event as `encode` wrote it."""
        return b"{" + self.rest[self.start :]

    @property
    def json(self) -> bytes:
        """The line as a JSON object without its checksum."""
        return b"{" + self.rest


def unpack(raw: bytes) -> Line | None:
    """Read one line without its newline; None if it is damaged."""
    if raw[:8] != b'{"crc":"' or raw[16:_HEAD] != b'",':
        return None
    rest = raw[_HEAD:]
    if raw[8:16] != b"%08x" % zlib.crc32(rest):
        return None
    match = _REST.match(rest)
    if match is None:
        return None
    name = match[3].decode(errors="replace")
    try:
        kind = name[1:-1] if "\\" not in name else str(json.loads(name))
    except ValueError:
        return None
    return Line(int(match[2]), kind, rest, match.start(3) - len(b'"type":'))


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Which part of which attempt and rank a file holds; sorts in reading order."""

    attempt: int
    rank: int
    number: int

    def __str__(self) -> str:
        return f"rank{self.rank}-a{self.attempt}-{self.number:06d}.jsonl"

    @classmethod
    def parse(cls, name: str) -> "SegmentName | None":
        """Read a file name; None if it is no segment's."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[2]), int(match[1]), int(match[3]))


def list_segments(folder: Path) -> list[SegmentName]:
    """The segments in a journal folder in reading order; none if there is no such folder."""
    try:
        names = [SegmentName.parse(entry.name) for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name is not None)
