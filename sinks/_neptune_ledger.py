"""What the run on the server holds, and where in a series the next point may stand.

Neptune takes growing steps in a series, and times that do not go back. What it would refuse is
known here before it is sent; what has no step of its own goes on after the last one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sinks._neptune_state import Memory
from sinks._values import milliseconds

AGAIN: Final = "a step that an earlier attempt has logged: the first value stays"
NOT_AFTER: Final = "a step that is not after its series' last one, which Neptune refuses"

_BETWEEN: Final = 0.001
"""How far apart texts and pictures are that belong to the same step."""


@dataclass(slots=True)
class Ledger:
    """What the run on the server holds, as far as deciding needs.

    Attributes:
        series: For each series the step and the time in milliseconds of its last point.
        mask: For each series the step up to which earlier attempts have delivered it.
        kept: The folder of the checkpoint that is there now, by kind.
        stored: The checkpoint that was uploaded last, under each attribute: its path and step.
        latest: For each metric the last point of `MetricsLogged`: its step and value.
    """

    series: dict[str, tuple[float, int]]
    mask: Mapping[str, float]
    kept: dict[str, str]
    stored: dict[str, str]
    latest: dict[str, tuple[int | None, float]] = field(
        default_factory=dict[str, tuple[int | None, float]]
    )

    @classmethod
    def of(cls, memory: Memory, latest: dict[str, tuple[int | None, float]]) -> "Ledger":
        """What has been acknowledged."""
        kept, stored = dict(memory.kept), dict(memory.stored)
        return cls(dict(memory.series), memory.mask, kept, stored, latest)

    def after(
        self, place: str, step: int | None, time: float, *, several: bool
    ) -> tuple[float, int] | str:
        """Step and time in milliseconds of a further point; or why there must be none.

        Args:
            place: The series.
            step: The step it belongs to, if any.
            time: When it was logged, in Unix seconds.
            several: Whether a step may have several points, which then stand close behind it.
        """
        last, since = self.series.get(place, (-1.0, 0))
        if step is None:
            at = math.floor(last) + 1.0
        elif step <= self.mask.get(place, -1.0):
            return AGAIN
        elif step > last:
            at = float(step)
        elif several:
            at = round(last + _BETWEEN, 3)
        else:
            return NOT_AFTER
        # A clock that was set back must not cost the point.
        found = self.series[place] = at, max(since, milliseconds(time))
        return found
