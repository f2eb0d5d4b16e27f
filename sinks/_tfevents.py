"""The bytes of TensorBoard's event files: protocol buffers in TFRecord frames, written by hand.

A frame is the length (8 bytes, little-endian), its masked CRC-32C, the data, and the data's masked
CRC-32C (tensorflow/core/lib/io/record_writer.h). The data is one `Event` of
tensorflow/core/util/event.proto; what it holds is defined in summary.proto and tensor.proto of
tensorflow/core/framework. Field numbers below are from there.

CRC-32C is computed by google-crc32c or crc32c if one of them is installed, and otherwise here.
"""

import importlib
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

__all__ = [
    "LARGEST_STEP",
    "crc32c",
    "crc32c_here",
    "field",
    "image",
    "integer",
    "metadata_only",
    "number",
    "scalar",
    "session_start",
    "summary",
    "tensor",
    "text",
    "version",
]

LARGEST_STEP: Final = 2**63 - 1
"""Steps are signed 64-bit integers there."""

DataClass: TypeAlias = Literal["tensor", "blobs"]

_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_LENGTH: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_WALL_TIME: Final = b"\x09"
_STEP: Final = b"\x10"
_SIMPLE_VALUE: Final = b"\x15"
_DT_DOUBLE: Final = 2
_DT_STRING: Final = 7
_DATA_CLASSES: Final = {"tensor": 2, "blobs": 3}
_POLYNOMIAL: Final = 0x82F63B78


def _table() -> list[int]:
    table: list[int] = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE: Final = _table()


def crc32c_here(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), some 60 ns a byte."""
    value, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _fastest() -> Callable[[bytes], int]:
    for module, function in (("google_crc32c", "value"), ("crc32c", "crc32c")):
        try:
            found = cast(
                "Callable[[bytes], int]", getattr(importlib.import_module(module), function)
            )
        except (ImportError, AttributeError):
            continue
        if found(b"123456789") == 0xE3069283:  # the check value of this polynomial
            return found
    return crc32c_here


crc32c: Final = _fastest()


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return _CRC.pack(((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _frame(data: bytes) -> bytes:
    length = _LENGTH.pack(len(data))
    return b"".join((length, _masked(length), data, _masked(data)))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def integer(field_number: int, value: int) -> bytes:
    """A field of a number that is not negative."""
    return _varint(field_number << 3) + _varint(value)


def number(field_number: int, value: float) -> bytes:
    """A field of a 64-bit float."""
    return _varint(field_number << 3 | 1) + _DOUBLE.pack(value)


def _event(time: float, step: int, what: bytes) -> bytes:
    return _frame(b"".join((_WALL_TIME, _DOUBLE.pack(time), _STEP, _varint(step), what)))


def version(time: float) -> bytes:
    """The record that every file begins with; `time` in Unix seconds."""
    return _event(time, 0, field(3, b"brain.Event:2"))


def session_start(time: float, step: int) -> bytes:
    """A record at which TensorBoard drops what it has at this step and later."""
    return _event(time, step, field(7, integer(1, 1)))


def summary(time: float, step: int, values: Iterable[bytes]) -> bytes:
    """A record of values of one step."""
    return _event(time, step, field(5, b"".join(values)))


@lru_cache(maxsize=4096)
def _scalar_head(tag: str) -> bytes:
    head = field(1, tag.encode()) + _SIMPLE_VALUE
    return b"\x0a" + _varint(len(head) + _FLOAT.size) + head


def scalar(tag: str, value: float) -> bytes:
    """A number, which becomes one of 32 bits: about 7 digits, infinite beyond 3.4e38."""
    try:
        packed = _FLOAT.pack(value)
    except OverflowError:
        packed = _FLOAT.pack(math.copysign(math.inf, value))
    return _scalar_head(tag) + packed


def text(tag: str, words: str) -> bytes:
    """A text, which TensorBoard shows as Markdown."""
    content = integer(1, _DT_STRING) + _shape([1]) + field(8, words.encode())
    return _value(tag, field(8, content) + _metadata("text", data_class="tensor"))


def tensor(tag: str, plugin: str, rows: Sequence[Sequence[float]]) -> bytes:
    """A table of 64-bit floats for a plugin; `rows` are equally long."""
    flat = [value for row in rows for value in row]
    content = integer(1, _DT_DOUBLE) + _shape([len(rows), len(rows[0])])
    content += field(4, struct.pack(f"<{len(flat)}d", *flat))
    return _value(tag, field(8, content) + _metadata(plugin, data_class="tensor"))


def image(tag: str, encoded: bytes, *, width: int, height: int, channels: int) -> bytes:
    """A picture in a file's own encoding; sizes in pixels."""
    picture = integer(1, height) + integer(2, width) + integer(3, channels)
    return _value(tag, field(4, picture + field(4, encoded)))


def metadata_only(tag: str, plugin: str, content: bytes) -> bytes:
    """What a plugin reads from the description of a value instead of from the value."""
    return _value(tag, _metadata(plugin, content))


def _value(tag: str, rest: bytes) -> bytes:
    return field(1, field(1, tag.encode()) + rest)


def _metadata(plugin: str, content: bytes = b"", *, data_class: DataClass | None = None) -> bytes:
    data = field(1, plugin.encode()) + (field(2, content) if content else b"")
    kind = integer(4, _DATA_CLASSES[data_class]) if data_class is not None else b""
    return field(9, field(1, data) + kind)


def _shape(sizes: Sequence[int]) -> bytes:
    return field(2, b"".join(field(2, integer(1, size)) for size in sizes))
