"""The values that stand for a run: the last one of each metric, or what its definition asks for."""

from collections.abc import Mapping
from typing import Final, cast

from pydantic import JsonValue

from sinks._values import compact
from sinks._wandb_state import Memory
from sinks._wandb_values import decoded

_PLAIN: Final = "last"
_LONGEST: Final = 4096
"""Characters of a text; a longer one stands in its row alone."""


class Summary:
    """The summary of one run, on from what is remembered.

    Args:
        memory: Where it is remembered; changed by `remember`.

    Attributes:
        changed: Whether it has changed since it was remembered.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._values = decoded(memory.summary)
        self._aggregates = decoded(memory.aggregates)
        self.changed = False

    def value(self, key: str) -> JsonValue:
        """What stands for a key; None if nothing does."""
        return self._values.get(key)

    def row(self, row: Mapping[str, JsonValue]) -> None:
        """Take in a row of history."""
        for key, value in row.items():
            kind = self._memory.defined.get(key, {}).get("summary", _PLAIN)
            if kind != _PLAIN and isinstance(value, (int, float)):
                self._values[key] = {kind: self._aggregate(key, kind, value)}
            elif not isinstance(value, str) or len(value) <= _LONGEST:
                self._values[key] = value
        self.changed = True

    def override(self, values: Mapping[str, JsonValue]) -> None:
        """Take in values that were given as such."""
        self._values.update(values)
        self.changed = True

    def numbers(self) -> dict[str, JsonValue]:
        """Its numbers, as metadata of a model."""
        return {
            key: value
            for key, value in self._values.items()
            if isinstance(value, (int, float)) and not key.startswith("_")
        }

    def remember(self) -> str | None:
        """Its line, if it changed since."""
        if not self.changed:
            return None
        self.changed = False
        self._memory.summary = compact(self._values)
        self._memory.aggregates = compact(self._aggregates)
        runtime = self._values.get("_runtime", 0)
        seconds = int(runtime) if isinstance(runtime, (int, float)) else 0
        return compact({**self._values, "_wandb": {"runtime": seconds}})

    def _aggregate(self, key: str, kind: str, value: float) -> float:
        before = cast("list[float]", self._aggregates.get(key) or [])
        if not before:
            found = value
        elif kind == "mean":
            found = before[0] + (value - before[0]) / (before[1] + 1)
        elif kind == "first":
            found = before[0]
        else:
            found = (min if kind == "min" else max)(before[0], value)
        self._aggregates[key] = [found, (before[1] if before else 0) + 1]
        return found
