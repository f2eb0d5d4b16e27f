"""Spreads requests over what W&B's server still allows, before it complains.

The server tells with its answers how much of a quota is left and when it is full again (IETF,
draft-polli-ratelimit-headers-02). Its units are its own: how many a request takes is learned from
what goes between two answers, which counts whoever else uses the same quota. As W&B's own client,
nobody waits longer than ten seconds for a request.
"""

from collections.abc import Mapping
from typing import Final

import anyio

_LONGEST: Final = 10.0
_NEWEST: Final = 0.8
"""The weight of what went last, in what a request is thought to take."""


class Pace:
    """The requests that share a quota, one at a time."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left = 0.0
        self._full_again = 0.0
        self._cost = 1.0
        self._requests = 0

    async def turn(self) -> None:
        """Wait until the next request may be sent."""
        await anyio.sleep_until(self._next)
        self._requests += 1

    def heed(self, headers: Mapping[str, str]) -> None:
        """Take in what an answer says; one that says nothing changes nothing.

        Args:
            headers: Of the answer, names in lower case.
        """
        left = _amount(headers.get("ratelimit-remaining"))
        reset = _amount(headers.get("ratelimit-reset"))
        if left is None or reset is None:
            return
        now = anyio.current_time()
        if now >= self._full_again:
            self._cost = 1.0
        elif self._requests:
            taken = max(0.0, self._left - left) / self._requests
            self._cost += _NEWEST * (taken - self._cost)
        self._left, self._full_again, self._requests = left, now + reset, 0
        spread = reset * self._cost / left if left else reset
        self._next = now + min(spread, reset, _LONGEST)


def _amount(text: str | None) -> float | None:
    """A number that is neither negative nor endless; None where there is none."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None
