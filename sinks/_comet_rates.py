"""Keeps each kind of data below what Comet takes of it in a minute, before it complains.

The limits are those of Comet's documentation (limits and performance); each kind has its own.
"""

from collections import deque
from typing import Final, Literal, TypeAlias

import anyio

Kind: TypeAlias = Literal["metric", "parameter", "output", "else"]

_LIMITS: Final[dict[Kind, int]] = {
    "metric": 12_000,
    "parameter": 10_000,
    "output": 12_000,
    "else": 8_000,
}
_WINDOW: Final = 60.0


class Rates:
    """Makes whoever sends wait, so that no minute holds more of a kind than its limit."""

    def __init__(self) -> None:
        self._sent: dict[Kind, deque[tuple[float, int]]] = {kind: deque() for kind in _LIMITS}
        self._total: dict[Kind, int] = dict.fromkeys(_LIMITS, 0)

    async def room(self, kind: Kind, count: int = 1) -> None:
        """Wait until so many more may be sent, and count them as sent."""
        sent = self._sent[kind]
        while True:
            now = anyio.current_time()
            while sent and sent[0][0] <= now - _WINDOW:
                self._total[kind] -= sent.popleft()[1]
            if not sent or self._total[kind] + count <= _LIMITS[kind]:
                break
            await anyio.sleep(sent[0][0] + _WINDOW - now)
        sent.append((now, count))
        self._total[kind] += count
