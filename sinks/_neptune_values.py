"""Writes paths and values as Neptune's operations take them.

The limits are those that Neptune's own client keeps: integers of 32 bits, 16,384 characters of
a string, 1,000 of a string in a series.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue

from sinks._neptune_settings import Dialect
from sinks._values import shortened

Operation: TypeAlias = dict[str, JsonValue]

LONGEST_STRING: Final = 16_384
LONGEST_IN_SERIES: Final = 1_000
_INTEGER: Final = 2**31
_HEADINGS: Final = ("train/", "eval/", "test/")


def number(value: float, dialect: Dialect) -> float | str | None:
    """A number of a series or a field; None if the server has no way to write it."""
    if value - value == 0:
        negative_zero = value == 0 and math.copysign(1.0, value) < 0
        return "NegZero" if negative_zero and dialect == "minfx" else value
    if dialect == "neptune":
        return None
    return "NaN" if value != value else "PosInf" if value > 0 else "NegInf"  # noqa: PLR0124 - NaN


def assignment(value: JsonValue, dialect: Dialect) -> Operation:
    """The operation that makes a field hold this value, without its path.

    What is no number, truth or text is written as Python writes it; an integer of more than 32
    bits becomes a float, as does one that no float could hold become a text.
    """
    if isinstance(value, bool):
        return {"assignBool": {"value": value}}
    if isinstance(value, int) and -_INTEGER <= value < _INTEGER:
        return {"assignInt": {"value": value}}
    if isinstance(value, (int, float)):
        try:
            written = number(float(value), dialect)
        except OverflowError:
            written = None
        if written is not None:
            return {"assignFloat": {"value": written}}
    text = value if isinstance(value, str) else str(value)
    return {"assignString": {"value": shortened(text, LONGEST_STRING)}}


def measured(value: JsonValue) -> JsonValue:
    """A float in place of a whole number: a field keeps its first type, and later ones may be none.

    What is too large to be an integer there becomes a float by itself.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGER:
        return float(value)
    return value


def pieces(text: str) -> Iterator[str]:
    """A text in parts that a series of strings takes; at least one."""
    for begin in range(0, max(1, len(text)), LONGEST_IN_SERIES):
        yield text[begin : begin + LONGEST_IN_SERIES]


def path(*parts: str) -> str:
    """A path of an attribute: names with single slashes between them."""
    names = [name for part in parts for name in part.split("/") if name.strip()]
    return "/".join(names) or "_"


def metric_name(key: str) -> str:
    """As Transformers' callback names metrics: eval/loss, test/loss, train/loss."""
    for heading in ("eval", "test"):
        if key.startswith(f"{heading}_"):
            return f"{heading}/{key[len(heading) + 1 :]}"
    return key if key.startswith(_HEADINGS) else f"train/{key}"


def fields(values: Mapping[str, JsonValue], prefix: str) -> Iterator[tuple[str, JsonValue]]:
    """Nested objects as paths; empty ones and lists stay values."""
    for key, value in values.items():
        place = path(prefix, key)
        if isinstance(value, dict) and value:
            yield from fields(value, place)
        else:
            yield place, value
