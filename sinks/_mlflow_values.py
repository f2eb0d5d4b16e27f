"""Writes parameters as MLflow's REST interface takes them, and knows what it takes at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from sinks._values import flattened


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes in one `log-batch`.

    Attributes:
        metrics: Points in one request.
        params: Parameters in one request.
        tags: Tags in one request.
        items: All of them together.
        param_value: Characters of a parameter's value.
        tag_value: Characters of a tag's value.
    """

    metrics: int = 1000
    params: int = 100
    tags: int = 100
    items: int = 1000
    param_value: int = 500
    tag_value: int = 5000


OLD: Final = Limits()
"""What every version takes."""

_ROOMY: Final = (2, 10)
"""From this version on parameters may be long; the exact one is a little older."""


def limits_for(version: str) -> Limits:
    """What a server takes that says it is of this version; "" if it did not say."""
    numbers: list[int] = []
    for part in version.strip().split(".")[:2]:
        if not part.isdigit():
            return OLD
        numbers.append(int(part))
    return Limits(param_value=6000) if tuple(numbers) >= _ROOMY else OLD


def parameters(values: Mapping[str, JsonValue], *, flatten: bool) -> Iterator[tuple[str, str]]:
    """Names and values as text, in the form in which MLflow's own client writes Python values."""
    for key, value in flattened(values, ".") if flatten else values.items():
        yield key, value if isinstance(value, str) else str(value)
