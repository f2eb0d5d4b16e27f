"""What the SwanLab sink remembers between batches and processes, and what it calls metrics."""

import re
from typing import Final

from pydantic import Field, JsonValue, NonNegativeInt

from bus import Outcome
from sinks._scalars import Place, rewritten

_SUMMARY: Final = frozenset(
    {
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_loss",
        "total_flos",
    }
)
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_OURS: Final = "__swanlab__."
"""What the library calls its own metrics; others of such a name are left out by it."""
_LONGEST: Final = 512


class Known(Place):
    """Everything that is remembered.

    Attributes:
        config: The run's settings so far.
        measured: How many events of numbers about the machine there were.
        error: Why the run ended, if it did not end well.
        closed: The outcome that was told.
    """

    config: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    measured: NonNegativeInt = 0
    error: str | None = None
    closed: Outcome | None = None


def renamed(key: str) -> str:
    """The name that Transformers' callback gives a key of its trainer (version 5.23)."""
    return f"single_value/{key}" if key in _SUMMARY else rewritten(key)


def logged_name(key: str) -> str:
    """A metric's name as SwanLab takes it: without control characters and edges of `.` and `/`."""
    name = _CONTROLS.sub("_", key.replace(_OURS, "")).strip(" ./")
    return name[:_LONGEST].strip(" ./") or "metric"
