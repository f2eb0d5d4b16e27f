"""All deliveries of one process: started as sinks are added, finished together.

They run on the loop thread, beside the live subscribers, and each has a thread of its own for what
may wait for a disk.
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bus._cursor import StillOwnedError
from bus._delivery import Delivery
from bus._event import Event
from bus._events import Outcome, SinkStateChanged
from bus._feed import Feed
from bus._live import LiveLoop
from bus._patience import Pace
from bus._requests import Request
from bus._sink import Sink, SinkContext
from bus._sink_account import SinkAccount
from bus._worker import Worker

log = logging.getLogger("bus")

_LAST_WORD = 1.0
"""Seconds that releasing an abandoned sink and counting what waits for it may take."""


class Deliveries:
    """Delivers a run's journal to its sinks.

    Args:
        run_dir: The run's folder.
        live: Whose loop to run on.
        publish: Takes the events that tell of sinks' health.
        asks: Takes what sinks ask of the training.
        pace: How often deliveries look around.
    """

    def __init__(
        self,
        run_dir: Path,
        live: LiveLoop,
        publish: Callable[[Event], object],
        asks: Callable[[Request], object],
        pace: Pace | None = None,
    ) -> None:
        self._live = live
        self._publish = publish
        self._asks = asks
        self._pace = pace
        self._feed = Feed(run_dir)
        self._all: list[Delivery] = []
        self._under_way: set[Delivery] = set()
        self._hurried = False

    @property
    def accounts(self) -> tuple[SinkAccount, ...]:
        """What each has done so far."""
        return tuple(delivery.account for delivery in self._all)

    def add(self, sink: Sink, context: SinkContext) -> None:
        """Start delivering to a sink, from the beginning of the run if it is new there."""
        sink.tell_through(self._publish)
        disk = Worker(f"hotloop-disk-{sink.name}")
        delivery = Delivery(
            sink,
            context,
            self._feed,
            disk=disk.call_in_turn,
            announce=lambda each: announce(each.account, self._publish),
            pace=self._pace,
            asks=self._asks,
        )
        self._all.append(delivery)
        self._under_way.add(delivery)
        self._live.start_delivery(f"deliver {sink.name}", lambda: self._run(delivery, disk))

    def hurry(self) -> None:
        """Have `close` wait no longer; takes no lock."""
        self._hurried = True

    def close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
        """Deliver what is there, tell each sink the outcome, and end.

        Args:
            outcome: How the run ended.
            deadline: When to give up, on the monotonic clock.
        """
        if not self._all:
            return ()
        self._live.call(lambda: self._finish(outcome, deadline))
        self._live.wait(lambda: self._hurried or not self._under_way, deadline + 0.1)
        if self._under_way:
            self._live.call(self._abandon)
            self._live.wait(lambda: not self._under_way, time.monotonic() + _LAST_WORD)
        return self.accounts

    def _finish(self, outcome: Outcome, deadline: float) -> None:
        for delivery in self._all:
            delivery.finish(outcome, deadline)

    def _abandon(self) -> None:
        for delivery in list(self._under_way):
            delivery.abandon()

    async def _run(self, delivery: Delivery, disk: Worker) -> None:
        try:
            await delivery.run()
        except StillOwnedError as error:  # pragma: no cover - these wait instead
            log.warning("%s", error)
        except Exception:
            log.exception("delivery to %r failed", delivery.sink.name)
        finally:
            disk.end()
            self._under_way.discard(delivery)


def announce(account: SinkAccount, publish: Callable[[Event], object]) -> None:
    """Say that a sink's health has changed: to the log, and as an event."""
    if account.status == "suspended":
        log.warning("%s is suspended: %s. Nothing is lost.", account.name, account.reason)
    elif account.status == "backing off":
        log.warning("%s does not answer: %s. It is tried again.", account.name, account.reason)
    elif account.status == "delivering" and account.url is not None:
        sys.stderr.write(f"{account.name}: {account.url}\n")
    publish(
        SinkStateChanged(
            sink=account.name, status=account.status, reason=account.reason, url=account.url
        )
    )
