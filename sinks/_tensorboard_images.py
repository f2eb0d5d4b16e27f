"""Reads from a PNG or JPEG how large the picture is, and nothing else of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Picture", "read_picture"]

_LARGEST: Final = 32 << 20
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as its file holds it; sizes in pixels."""

    encoded: bytes
    width: int
    height: int
    channels: int


def read_picture(path: Path) -> Picture:
    """Read a PNG or JPEG of at most 32 MiB.

    Raises:
        OSError: It cannot be read.
        ValueError: It is something else, damaged at the beginning, or larger.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"{path} has more than {_LARGEST} bytes")
    size = _png(data) if data.startswith(_PNG) else _jpeg(data)
    if size is None:
        raise ValueError(f"{path} is neither a PNG nor a JPEG")
    return Picture(data, *size)


def _png(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and channels, from the IHDR chunk that a PNG begins with (RFC 2083)."""
    if data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return width, height, _PNG_CHANNELS.get(data[25], 3)


def _jpeg(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and channels, from the frame header of a JPEG (ITU T.81, annex B)."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            return int.from_bytes(data[at + 7 : at + 9], "big"), height, data[at + 9]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
