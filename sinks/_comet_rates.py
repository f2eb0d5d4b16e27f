"""Keeps each kind of data below what Comet takes of it in a time, before it complains."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Final

import anyio

from sinks._comet_plan import Kind

MINUTE: Final[Mapping[Kind, int]] = {
    "metric": 12_000,
    "parameter": 10_000,
    "output": 12_000,
    "else": 8_000,
}
"""What Comet takes in a minute: each kind has its own limit (its documentation of limits)."""


class Rates:
    """Makes whoever sends wait, so that no stretch of time holds more of a kind than its limit.

    Args:
        limits: How much of each kind.
        window: In how many seconds.
    """

    def __init__(self, limits: Mapping[Kind, int] = MINUTE, window: float = 60.0) -> None:
        self._limits = limits
        self._window = window
        self._sent: defaultdict[Kind, deque[tuple[float, int]]] = defaultdict(deque)
        self._total: defaultdict[Kind, int] = defaultdict(int)

    async def room(self, kind: Kind, count: int = 1) -> None:
        """Wait until so many more may be sent, and count them as sent."""
        sent = self._sent[kind]
        while True:
            now = anyio.current_time()
            while sent and sent[0][0] <= now - self._window:
                self._total[kind] -= sent.popleft()[1]
            if not sent or self._total[kind] + count <= self._limits[kind]:
                break
            await anyio.sleep(sent[0][0] + self._window - now)
        sent.append((now, count))
        self._total[kind] += count
