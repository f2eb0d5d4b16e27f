"""Compares how long the ranks are busy in a step, and names those that are busy for much longer.

Where ranks exchange gradients all their steps take equally long, since the fast ones wait for the
slow ones. So each rank's watchdog looks now and then where its training thread is: the share of
looks that found it waiting, for other ranks or inside the backward pass where it may be, is not
counted as busy. Every rank writes down its last window under a key of its own; rank 0 compares.
"""

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict

from bus import StragglerDetected
from runtime._watchdog_stacks import WAITING, Look

LOOKS: Final = 60
"""Looks of a window at least."""

_EXCESS: Final = 0.25
"""Share of a step that a straggler is busy for longer than the median of the ranks."""

_WINDOWS: Final = 2
"""Windows in a row in which it has to be; a share of 60 looks is uncertain by 0.06 or so."""


class RankPace(BaseModel):
    """What one rank's steps took in a window.

    Attributes:
        window: Which of its windows.
        step_seconds: What a step took in all.
        busy_seconds: What it took without waiting.
        place: Where its training thread was most often, waiting left out.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    window: int
    step_seconds: float
    busy_seconds: float
    place: str


class Window:
    """Collects looks at one rank."""

    def __init__(self) -> None:
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._looks = self._waiting = self._steps = 0
        self._seconds = 0.0
        self._places: Counter[str] = Counter()

    def add(self, look: Look, *, passed: int, seconds: float) -> None:
        """Add a look, the safe points passed since the one before, and the time since then."""
        self._looks += 1
        self._steps += passed
        self._seconds += seconds
        if look.activity in WAITING:
            self._waiting += 1
        elif look.place:
            self._places[look.place] += 1

    def take(self) -> RankPace | None:
        """The window if it is full, and begin the next one; None if it is not."""
        if self._looks < LOOKS:
            return None
        pace = None
        if self._steps:
            self._number += 1
            step = self._seconds / self._steps
            busy = step * (1 - self._waiting / self._looks)
            place = max(self._places, key=self._places.__getitem__, default="")
            pace = RankPace(window=self._number, step_seconds=step, busy_seconds=busy, place=place)
        self._begin()
        return pace


class Comparison:
    """Follows the paces of all ranks."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._behind: Counter[int] = Counter()

    def add(self, paces: Mapping[int, RankPace]) -> list[StragglerDetected]:
        """Compare the ranks' last windows; which of them have become stragglers."""
        if len(paces) < 2:
            return []
        # The lower one of two: of two ranks the faster is what is usual.
        usual = statistics.median_low(pace.busy_seconds for pace in paces.values())
        step = statistics.median_low(pace.step_seconds for pace in paces.values())
        found: list[StragglerDetected] = []
        for rank, pace in paces.items():
            if self._seen.get(rank) == pace.window:
                continue
            self._seen[rank] = pace.window
            if pace.busy_seconds - usual < _EXCESS * step:
                self._behind[rank] = 0
                continue
            self._behind[rank] += 1
            if self._behind[rank] == _WINDOWS:
                found.append(
                    StragglerDetected(
                        rank=rank,
                        busy_seconds=pace.busy_seconds,
                        usual_seconds=usual,
                        step_seconds=pace.step_seconds,
                        place=pace.place,
                    )
                )
        return found
