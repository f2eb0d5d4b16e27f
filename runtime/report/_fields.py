"""Take values out of a journal line without trusting their types.

A report must render whatever a newer version or a user's own event wrote: a field of the wrong
type reads as absent, never as an exception.
"""

import json
import math
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

_LONGEST_VALUE = 2_000


def text_of(data: Mapping[str, JsonValue], key: str, default: str = "") -> str:
    """The string under `key`, or `default`."""
    value = data.get(key)
    return value if isinstance(value, str) else default


def number_of(value: JsonValue) -> float:
    """A journalled number; NaN for everything that is none."""
    if isinstance(value, float):
        return value
    if isinstance(value, int | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return math.nan
    return math.nan


def seconds_of(data: Mapping[str, JsonValue], key: str) -> float | None:
    """The finite number under `key`, or None."""
    value = number_of(data.get(key))
    return value if math.isfinite(value) else None


def whole_of(data: Mapping[str, JsonValue], key: str) -> int | None:
    """The count under `key`, from 0 to what a double holds exactly, or None."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**53 else None


def mapping_of(data: Mapping[str, JsonValue], key: str) -> dict[str, JsonValue]:
    """The object under `key`, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def shown(value: JsonValue) -> str:
    """A value as a reader wants it: strings bare, the rest as JSON, very long ones cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."


def flattened(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and shown values, in their order."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shown(value)
