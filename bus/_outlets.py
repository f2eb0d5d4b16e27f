"""A run's sinks as its bus sees them; what they need is loaded with the first of them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bus._event import Event
from bus._events import Outcome
from bus._live import LiveLoop
from bus._options import Deliver
from bus._requests import Request
from bus._sink_account import SinkAccount

if TYPE_CHECKING:
    from bus._destinations import Destinations
    from bus._sink import Sink, SinkContext


class Outlets:
    """None, or all destinations of a run in this process.

    Args:
        live: The loop thread.
        publish: Takes the events that tell of sinks' health.
        asks: Takes what sinks ask of the training.
        deliver: Where to serve sinks that can be served anywhere.

    Attributes:
        run_dir: The run's folder; None for a bus without memory.
    """

    def __init__(
        self,
        live: LiveLoop,
        publish: Callable[[Event], object],
        asks: Callable[[Request], object],
        *,
        deliver: Deliver,
    ) -> None:
        self.run_dir: Path | None = None
        self._live = live
        self._publish = publish
        self._asks = asks
        self._deliver: Deliver = deliver
        self._destinations: Destinations | None = None
        self._lock = threading.Lock()

    @property
    def accounts(self) -> tuple[SinkAccount, ...]:
        """What each sink has got so far."""
        return self._destinations.accounts if self._destinations is not None else ()

    def add(self, sink: "Sink", context: "SinkContext") -> None:
        """Start delivering to a sink.

        Raises:
            ValueError: There is no journal to deliver from, or a sink of that name already.
        """
        if self.run_dir is None:
            raise ValueError("a bus without a journal has nothing to deliver to a sink")
        # Not before: a program without sinks does not pay for what they need.
        from bus._destinations import Destinations  # noqa: PLC0415

        sink.bind(context)
        with self._lock:
            if self._destinations is None:
                self._destinations = Destinations(
                    self.run_dir, self._live, self._publish, self._asks, deliver=self._deliver
                )
        self._destinations.add(sink, context)

    def hurry(self) -> None:
        """Have `close` wait no longer; takes no lock."""
        if self._destinations is not None:
            self._destinations.hurry()

    def close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
        """Deliver what is there, tell each sink the outcome, and end.

        Args:
            outcome: How the run ended.
            deadline: When to give up, on the monotonic clock.
        """
        if self._destinations is None:
            return ()
        return self._destinations.close(outcome, deadline)
