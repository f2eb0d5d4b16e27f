"""Writes names, numbers and settings as Comet takes them."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from sinks import _values
from sinks._values import number

_NAME: Final = 100
_TEXT: Final = 1000
_CUT: Final = " [truncated]"
_DEPTH: Final = 10
_LARGEST: Final = 2**63 - 1
"""Beyond it an integer is no `long` of a server in Java."""
_HASH: Final = 8


def named(name: str) -> str:
    """A metric's or parameter's name of at most 100 characters, each its own.

    Comet's client cuts long ones, so that two which begin alike become one.
    """
    if len(name) <= _NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    return f"{name[: _NAME - _HASH - 1]}~{digest}"


def shortened(text: str) -> str:
    """A text of at most 1000 characters; what was cut off is marked as Comet's client does."""
    return text if len(text) <= _TEXT else text[: _TEXT - len(_CUT)] + _CUT


def plain(value: JsonValue) -> JsonValue:
    """A parameter's value: numbers, texts and short lists as they are."""
    if isinstance(value, str):
        return shortened(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int) and abs(value) > _LARGEST:
        return shortened(str(value))
    if isinstance(value, list):
        found: list[JsonValue] = [plain(each) for each in value]
        text = compact(found)
        return found if len(text) <= _TEXT else shortened(text)
    return shortened(compact(value)) if isinstance(value, dict) else value


def single(value: JsonValue) -> JsonValue:
    """A single value, which is no list."""
    return plain(compact(value) if isinstance(value, list) else value)


def flattened(
    values: Mapping[str, JsonValue], prefix: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, JsonValue]]:
    """Nested objects as `outer|inner`, ten deep; empty ones stay values."""
    for key, value in values.items():
        if isinstance(value, dict) and value and depth > 1:
            yield from flattened(value, f"{prefix}{key}|", depth - 1)
        else:
            yield prefix + key, plain(value)


def compact(value: JsonValue) -> str:
    """JSON in one line; NaN and infinities as words."""
    return _values.compact(_worded(value))


def _worded(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _worded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_worded(each) for each in value]
    return number(value) if isinstance(value, float) else value
