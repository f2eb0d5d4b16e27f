"""Waiting, and what the end of the run makes of it."""

from dataclasses import dataclass, field

import anyio

from bus._events import Outcome
from bus._failures import Backoff

_LAST_TRIES = 0.5
"""Seconds between tries at most when the run ends."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a delivery looks around.

    Attributes:
        look: Seconds between two looks at a journal with nothing new in it.
        rearm: Seconds between two tries of a suspended sink.
        backoff: Waits after failures.
        take_over: Seconds after which whoever waits for another process takes over from it: that
            one is stuck, or its machine is gone.
    """

    look: float = 0.2
    rearm: float = 600.0
    backoff: Backoff = field(default_factory=Backoff)
    take_over: float = 60.0


class OverError(Exception):
    """Closing has no use for another try."""


class Patience:
    """How long a delivery may wait; on the event loop's clock.

    Attributes:
        ending: Whether to come to an end.
        outcome: How the run ended; None if it has not.
        deadline: When everything must be over.
    """

    def __init__(self) -> None:
        self.ending: bool = False
        self.outcome: Outcome | None = None
        self.deadline: float = float("inf")
        self._stir: anyio.Event | None = None  # only inside a loop can one be made

    @property
    def exhausted(self) -> bool:
        """Whether the time is over."""
        return anyio.current_time() >= self.deadline

    def finish(self, outcome: Outcome | None, deadline: float) -> None:
        """Come to an end; whoever waits here goes on soon."""
        self.ending = True
        self.outcome = outcome
        self.deadline = deadline
        self.stir()

    def stir(self) -> None:
        """End the waits that are not for anything in particular."""
        if self._stir is not None:
            self._stir.set()

    async def sleep(self, seconds: float, *, stirred: bool = False, obeys: bool = False) -> None:
        """Wait; when the run ends, only as long as another try in time allows.

        Args:
            seconds: How long.
            stirred: Whether `stir` and the end of the run end it.
            obeys: Whether the destination asked for it, so that it is not cut short.

        Raises:
            OverError: The run ends before the destination wants to hear of us.
        """
        until = anyio.current_time() + seconds
        while True:
            if self.ending and obeys and until > self.deadline:
                raise OverError
            if self.ending and not obeys:
                until = min(until, anyio.current_time() + _LAST_TRIES)
            left = min(until, self.deadline) - anyio.current_time()
            if left <= 0:
                return
            stir = self._stir = anyio.Event()
            with anyio.move_on_after(left):
                await stir.wait()
            if stirred and stir.is_set():
                return
