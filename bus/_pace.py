"""How fast safe points go by, from looks at their count at any moments."""

import math


class Pace:
    """How fast ticks go by, as far as is known in this phase."""

    def __init__(self, now: float) -> None:
        self._seen: tuple[int | None, float] = (None, now)
        self._rate = 0.0

    def observe(self, tick: int, now: float) -> None:
        """Note where the count is; `now` in seconds of the monotonic clock."""
        before, then = self._seen
        if before is None or now <= then:
            self._seen = (tick, now)
        elif tick > before:
            rate = (tick - before) / (now - then)
            self._rate = rate if not self._rate else (self._rate + rate) / 2
            self._seen = (tick, now)
        elif now - then > 1 / max(self._rate, 1e-9):
            self._rate = 1 / (now - then)  # slower than it was: nothing has come for longer

    def ticks(self, seconds: float) -> int:
        """How many go by in so many seconds; 0 as long as nothing is known."""
        return math.ceil(self._rate * seconds)
