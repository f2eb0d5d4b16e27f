"""Reads answers that must be JSON objects; what is none comes from something in between."""

from collections.abc import Mapping

from pydantic import JsonValue

from bus import UnavailableError


def mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    """An object.

    Raises:
        UnavailableError: It is none.
    """
    if not isinstance(value, dict):
        raise UnavailableError("the answer is none of this service's: it holds no such object")
    return value


def text(values: Mapping[str, JsonValue], key: str) -> str:
    """A text in an object.

    Raises:
        UnavailableError: It is missing.
    """
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise UnavailableError(f"the answer is none of this service's: it lacks {key}")
    return value


def inside(value: JsonValue | Mapping[str, JsonValue], *path: str) -> dict[str, JsonValue]:
    """The object at a path; {} if there is nothing, or something else."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, dict) else {}


def items(values: Mapping[str, JsonValue], key: str) -> list[Mapping[str, JsonValue]]:
    """The objects of a list in an object; none if it is missing.

    Raises:
        UnavailableError: One is none.
    """
    listed = values.get(key)
    return [mapping(each) for each in listed] if isinstance(listed, list) else []
