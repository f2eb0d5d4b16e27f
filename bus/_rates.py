"""Several rate limits at once, each so many calls in so many seconds."""

from collections import deque
from collections.abc import Sequence

import anyio


class RateLimiter:
    """Makes callers wait so that no limit is exceeded in any window of its length.

    For one task at a time; a sink with several kinds of requests makes several of these.

    Args:
        rates: Pairs of (calls, seconds), all of which hold.
    """

    def __init__(self, rates: Sequence[tuple[int, float]]) -> None:
        self._windows = [(count, seconds, deque[float]()) for count, seconds in rates]

    @property
    def delay(self) -> float:
        """Seconds until the next call may be made."""
        now = anyio.current_time()
        waits = [
            calls[0] + seconds - now
            for count, seconds, calls in self._windows
            if len(calls) >= count
        ]
        return max([0.0, *waits])

    async def wait(self) -> None:
        """Wait for the next call's turn, and count it."""
        while (delay := self.delay) > 0:  # noqa: ASYNC110 - time is what is waited for
            await anyio.sleep(delay)
        now = anyio.current_time()
        for count, _, calls in self._windows:
            calls.append(now)
            while len(calls) > count:
                calls.popleft()
