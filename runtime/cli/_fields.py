"""Reads the JSON of an event whose shape is only hoped for: a journal may be anybody's."""

from collections.abc import Mapping

from pydantic import JsonValue

from runtime.cli._output import printable

Data = Mapping[str, JsonValue]


def text(data: Data, key: str) -> str | None:
    """A string field, None if it is missing or something else."""
    value = data.get(key)
    return value if isinstance(value, str) else None


def whole(data: Data, key: str) -> int | None:
    """An integer field, None if it is missing or something else."""
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(data: Data, key: str) -> float | None:
    """A number field, None if it is missing or something else."""
    value = data.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(data: Data, key: str) -> Data:
    """An object field, empty if it is missing or something else."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def metrics(data: Data) -> dict[str, float | str]:
    """The numbers of an event that carries some; NaN and infinities are strings, as journalled."""
    return {
        name: value
        for name, value in mapping(data, "metrics").items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }


def brief(value: JsonValue, limit: int = 120) -> str:
    """A value on one line: numbers in six digits, long ones cut with an ellipsis."""
    shown = _shown(value, limit)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _shown(value: JsonValue, limit: int) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{printable(k)}: {brief(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(brief(item) for item in value[:limit]) + "]"
    return str(value)
