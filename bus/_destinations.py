"""Where each sink of a run is served: on the loop thread, or in a process of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bus._collector import count_waiting, names_of
from bus._cursor import Cursor, list_cursors
from bus._deliveries import Deliveries
from bus._event import Event
from bus._events import Outcome
from bus._feed import Feed, FeedReader
from bus._live import LiveLoop
from bus._options import Deliver
from bus._process import ProcessDeliveries
from bus._requests import Request
from bus._sink import Sink, SinkContext
from bus._sink_account import SinkAccount

log = logging.getLogger("bus")

_COUNT = 0.5
"""Seconds for counting what waits for sinks whose deliveries could not say it."""

_GLANCE = 0.05
"""Seconds that an interrupt may go unnoticed."""


class Destinations:
    """All sinks of a run in this process.

    Args:
        run_dir: The run's folder.
        live: The loop thread.
        publish: Takes the events that tell of sinks' health.
        asks: Takes what sinks ask of the training.
        deliver: Where to serve sinks that can be served anywhere.
    """

    def __init__(
        self,
        run_dir: Path,
        live: LiveLoop,
        publish: Callable[[Event], object],
        asks: Callable[[Request], object],
        *,
        deliver: Deliver,
    ) -> None:
        self._run_dir = run_dir
        self._sinks: dict[str, Sink] = {}
        self._here = Deliveries(run_dir, live, publish, asks)
        self._elsewhere = ProcessDeliveries(publish, asks) if deliver == "process" else None

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
        self._sinks[sink.name] = sink
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

    def hurry(self) -> None:
        """Have `close` wait no longer; takes no lock."""
        self._here.hurry()
        if self._elsewhere is not None:
            self._elsewhere.hurry()

    def close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
        """Deliver what is there, tell each sink the outcome, and end.

        Args:
            outcome: How the run ended.
            deadline: When to give up, on the monotonic clock.
        """
        return self._completed(self._close(outcome, deadline))

    def _close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
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
        while thread.is_alive() and time.monotonic() < deadline + 1.5:
            # In small waits: a signal that comes as one begins is only noticed when it is over.
            thread.join(_GLANCE)
        return (*here, *(elsewhere or other.accounts))

    def _completed(self, accounts: tuple[SinkAccount, ...]) -> tuple[SinkAccount, ...]:
        """Find out on the disk what deliveries that were cut off could not say."""
        found: dict[str, SinkAccount] = {}
        owing = [each for each in accounts if not each.complete and each.pending is None]
        if owing:
            thread = threading.Thread(
                target=self._count, args=(owing, found), name="hotloop-count", daemon=True
            )
            thread.start()  # one that nobody has to wait for: the disk may hang
            thread.join(_COUNT)
        return tuple(found.get(each.name, each) for each in accounts)

    def _count(self, accounts: Sequence[SinkAccount], found: dict[str, SinkAccount]) -> None:
        try:
            cursors = list_cursors(self._run_dir)
            for each in accounts:
                cursor = cursors.get(each.name) or Cursor(sink=each.name)
                sink = self._sinks[each.name]
                reader = FeedReader(Feed(self._run_dir), sink.ranks)
                waiting = count_waiting(reader, cursor, names_of(sink.wants))
                counts = cursor.counts
                delivered = max(each.delivered, counts.delivered)
                dead = max(each.dead, counts.dead)
                # What was done and not noted any more is sent again, but does not wait.
                unnoted = delivered - counts.delivered + dead - counts.dead
                found[each.name] = replace(
                    each, delivered=delivered, dead=dead, pending=max(0, waiting - unnoted)
                )
        except OSError as error:
            log.debug("what waits for the sinks could not be counted: %s", error)
