"""Where each sink of a run is served: on the loop thread, or in a process of its own."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bus._deliveries import Deliveries
from bus._event import Event
from bus._events import Outcome
from bus._live import LiveLoop
from bus._options import Deliver
from bus._process import ProcessDeliveries
from bus._sink import Sink, SinkContext
from bus._sink_account import SinkAccount

log = logging.getLogger("bus")


class Destinations:
    """All sinks of a run in this process.

    Args:
        run_dir: The run's folder.
        live: The loop thread.
        publish: Takes the events that tell of sinks' health.
        deliver: Where to serve sinks that can be served anywhere.
    """

    def __init__(
        self,
        run_dir: Path,
        live: LiveLoop,
        publish: Callable[[Event], object],
        *,
        deliver: Deliver,
    ) -> None:
        self._here = Deliveries(run_dir, live, publish)
        self._elsewhere = ProcessDeliveries(publish) if deliver == "process" else None

    @property
    def accounts(self) -> tuple[SinkAccount, ...]:
        """What each sink has got so far."""
        elsewhere = self._elsewhere.accounts if self._elsewhere is not None else ()
        return (*self._here.accounts, *elsewhere)

    def add(self, sink: Sink, context: SinkContext) -> None:
        """Start delivering to a sink.

        Raises:
            ValueError: There is a sink of that name already.
        """
        if any(each.name == sink.name for each in self.accounts):
            raise ValueError(f"there is a sink named {sink.name!r} already")
        if self._elsewhere is None:
            self._here.add(sink, context)
        elif self._elsewhere.takes(sink):
            self._elsewhere.add(sink, context)
        else:
            log.warning(
                "%s is delivered to from this process: its class cannot be imported by another, "
                "or it holds something live",
                sink.name,
            )
            self._here.add(sink, context)

    def close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
        """Deliver what is there, tell each sink the outcome, and end.

        Args:
            outcome: How the run ended.
            deadline: When to give up, on the monotonic clock.
        """
        elsewhere: list[SinkAccount] = []
        if self._elsewhere is None:
            return self._here.close(outcome, deadline)
        # Side by side: each may need all the time there is.
        other = self._elsewhere
        thread = threading.Thread(
            target=lambda: elsewhere.extend(other.close(outcome, deadline)),
            name="hotloop-close",
            daemon=True,
        )
        thread.start()
        here = self._here.close(outcome, deadline)
        thread.join(max(0.0, deadline + 1.5 - time.monotonic()))
        return (*here, *(elsewhere or other.accounts))
