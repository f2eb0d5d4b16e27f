"""Writes times, numbers and settings as more than one service takes them."""

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue


def milliseconds(time: float) -> int:
    """A time of an event, in whole milliseconds since 1970."""
    return int(time * 1000)


def number(value: float) -> float | str:
    """A number for services whose own clients write words for what JSON has no number for."""
    return value if value - value == 0 else spelled(value)


def spelled(value: float) -> str:
    """NaN and infinities as words."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - NaN


def shortened(text: str, limit: int) -> str:
    """A text that is not longer than this; what was cut off is marked."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def flattened(
    values: Mapping[str, JsonValue], between: str, prefix: str = ""
) -> Iterator[tuple[str, JsonValue]]:
    """Nested objects with their names joined; empty ones and lists stay values."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, between, f"{prefix}{key}{between}")
        else:
            yield prefix + key, value


def compact(value: object) -> str:
    """JSON in one line, with bare NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
