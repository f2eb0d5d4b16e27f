"""Decides how late a safe point is: a pure state machine, fed with looks at the training thread.

It has no clock and no thread. Steps are learned from the looks between which safe points were
passed; what is lenient (a phase such as an evaluation, a compiler on the stack, a loop that is
over) is neither learned nor judged, and the time begins anew behind it. So does it behind a first
step, which may warm up.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TIMES: Final = 3.0
_QUANTILE: Final = 0.99
_KEPT: Final = 1_000
"""Durations that are remembered, each of one step, or the mean of those between two looks."""

_KNOWN: Final = 3
"""Safe points passed in the loop before any is missed: until then it warms up."""

ASKS, REPORTS = 0.6, 0.9
"""Shares of the limit: when to ask the other ranks, and when to report, which takes a while."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the training thread.

    Attributes:
        now: When, in seconds of a monotonic clock.
        passed: Safe points passed so far.
        phases: How often a phase began or ended so far.
        judged: Whether safe points are due now: the loop is at its steps and not at something that
            may take any time.
    """

    now: float
    passed: int
    phases: int
    judged: bool


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the next safe point is.

    Attributes:
        silent: Seconds since the last safe point, or since they are due again.
        limit: Seconds within which a stall is to be reported; infinite while nothing is known.
        ended: Seconds that a silence lasted which would have been reported, where it has just
            ended; otherwise 0.
    """

    silent: float
    limit: float
    ended: float = 0.0

    @property
    def asks(self) -> bool:
        """Whether it is time to find out what others are doing."""
        return self.silent >= ASKS * self.limit

    @property
    def reports(self) -> bool:
        """Whether it is time to report."""
        return self.silent >= REPORTS * self.limit


class Judge:
    """Follows one training thread.

    Args:
        floor: Seconds of silence that are no stall, however fast the steps are.
    """

    def __init__(self, floor: float) -> None:
        self.floor: float = floor
        self._durations: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._p99: float | None = 0.0  # None when there is more to count
        self._known = 0
        self._last: Seen | None = None
        self._since = 0.0  # when there was a safe point, or they became due; at the earliest
        self._counted = 0.0  # up to which look safe points are counted
        self._excused = True  # whatever comes first may warm up

    def look(self, seen: Seen) -> Lateness:
        """Take a look into account; tell how late the next safe point is."""
        last, self._last = self._last, seen
        if last is None or not seen.judged or seen.phases != last.phases:
            ended = self._ended(seen.now)
            self._since = self._counted = seen.now
            self._excused |= last is None or not seen.judged or seen.passed == last.passed
            return Lateness(0.0, math.inf, ended)
        passed = seen.passed - last.passed
        ended = 0.0
        if passed:
            ended = self._ended(seen.now)
            self._learn((seen.now - self._counted) / passed, passed)
            self._counted = seen.now
            self._since = last.now  # the last safe point may have been right behind that look
        silent = seen.now - self._since
        limit = math.inf if self._known < _KNOWN else self._limit(silent)
        return Lateness(silent, limit, ended)

    def _learn(self, duration: float, count: int) -> None:
        if self._excused:  # it began before, or warmed up
            self._excused = False
            return
        self._known += count
        self._durations.append((duration, count))
        self._p99 = None

    def is_long(self, seconds: float) -> bool:
        """Whether a silence of so many seconds is one to be reported, as far as steps are known."""
        return self._known >= _KNOWN and seconds >= REPORTS * self._limit(seconds)

    def _ended(self, now: float) -> float:
        """How long it was silent, if that was long enough to be reported."""
        silent = now - self._since
        return silent if self.is_long(silent) else 0.0

    def _limit(self, silent: float) -> float:
        """The limit; steps are only counted where it matters."""
        if silent < ASKS * self.floor:
            return self.floor
        if self._p99 is None:
            self._p99 = quantile(self._durations, _QUANTILE)
        return max(self.floor, _TIMES * self._p99)


def quantile(durations: Iterable[tuple[float, int]], share: float) -> float:
    """The duration below or at which are this share of the steps.

    Args:
        durations: Durations with how many steps had them.
        share: Between 0 and 1.
    """
    ascending = sorted(durations)
    left = share * sum(count for _, count in ascending)
    for duration, count in ascending:
        left -= count
        if left <= 0:
            return duration
    return 0.0
