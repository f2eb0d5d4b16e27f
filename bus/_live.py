"""The loop thread: an event loop of its own for users' coroutines, who may hurt only each other.

The writer thread hands events over with `offer` and `notify`, which never wait. A subscriber that
raises is logged once with its traceback, counted, and restarted or retired as it asked; one that
holds the loop is named with how long and where.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio

from bus._control import Control, current_subscriber
from bus._event import Event
from bus._events import SubscriberFailed
from bus._subscription import EventStream, OnError, Subscription

log = logging.getLogger("bus")

BLOCKED_AFTER: Final = 0.1
"""Seconds the loop may not answer before whoever holds it is named."""

UNREAD: Final = "not read before the end of the run"
"""Why a subscriber's events are dropped when closing has no more time for it."""

_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 30.0

Body: TypeAlias = Callable[[EventStream[Any], Control], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Blocker:
    """A subscriber that held the loop.

    Attributes:
        name: Its name.
        seconds: How long, at least.
        where: File, line and function it was in.
    """

    name: str
    seconds: float
    where: str


class LiveLoop:
    """Runs subscribers on a daemon thread with an asyncio loop.

    Args:
        control: Handed to subscribers that ask for it.
        publish: Takes the events that say what went wrong.
    """

    def __init__(self, control: Control, publish: Callable[[Event], object]) -> None:
        self.subscriptions: list[Subscription] = []
        self.blockers: dict[str, Blocker] = {}
        self.cpu_seconds = 0.0
        self._control = control
        self._publish = publish
        self._by_type: dict[type[Event], tuple[Subscription, ...]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._touched: deque[Subscription] = deque()
        self._notified = False
        self._beat_sent: float | None = None
        self._suspect: tuple[str, str] | None = None

    @property
    def running(self) -> bool:
        """Whether the thread exists; it starts with the first subscriber."""
        return self._thread is not None

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs on the loop thread."""
        return threading.current_thread() is self._thread

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody subscribed to events of this class."""
        return bool(self._subscribed(kind))

    def add(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        """Start a subscriber; from any thread."""
        self.subscriptions = [*self.subscriptions, subscription]
        self._by_type = {}  # built anew by whoever looks next
        self.start_task(subscription.name, lambda: self._run(subscription, body, on_error))

    def start_task(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine on the loop; from any thread."""

        def start() -> None:
            task = loop.create_task(make(), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop = self._start()
        loop.call_soon_threadsafe(start)

    def offer(self, event: Event) -> None:
        """Put an event into the buffer of everyone who subscribed to it; by the writer thread."""
        for subscription in self._subscribed(type(event)):
            if subscription.offer(event) and subscription not in self._touched:
                self._touched.append(subscription)

    def notify(self) -> None:
        """Wake the loop if anything was offered; by the writer thread."""
        if self._touched and not self._notified and self._loop is not None:
            self._notified = True
            self._call(self._wake_touched)

    def watch(self) -> None:
        """Look whether the loop still answers, and name who holds it; by the writer thread."""
        if self._loop is None:
            return
        now = time.monotonic()
        if self._beat_sent is None:
            self._beat_sent = now
            self._call(self._beat)
        elif now - self._beat_sent > BLOCKED_AFTER:
            self._name_blocker(now - self._beat_sent)

    def catch_up(self, deadline: float) -> bool:
        """Wait until every subscriber has read its backlog; tell whether all have in time."""
        return self._wait(lambda: all(each.idle for each in self.subscriptions), deadline)

    def finish(self, deadline: float) -> list[str]:
        """End every stream, wait for the subscribers, stop the loop.

        Returns:
            The names of subscribers that were still busy at the deadline and were abandoned.
        """
        if self._loop is None or self.is_current_thread:
            return []
        self._call(self._end_streams)
        self._wait(lambda: not self._tasks, deadline)
        late = sorted(task.get_name() for task in list(self._tasks))
        self._call(self._cancel_all)
        self._wait(lambda: not self._tasks, min(deadline + 0.5, time.monotonic() + 0.5))
        for subscription in self.subscriptions:
            subscription.retire(UNREAD)
        self._call(self._loop.stop)
        if self._thread is not None:
            self._thread.join(max(0.0, min(0.5, deadline + 1.0 - time.monotonic())))
        return late

    def _subscribed(self, kind: type[Event]) -> tuple[Subscription, ...]:
        found = self._by_type.get(kind)
        if found is None:
            subscriptions = self.subscriptions
            found = tuple(s for s in subscriptions if issubclass(kind, s.filter.types))
            if subscriptions is self.subscriptions:
                self._by_type[kind] = found
        return found

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(loop,), name="hotloop-live", daemon=True
            )
            self._thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            if not self._tasks:
                loop.close()

    def _call(self, function: Callable[[], object]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("the loop thread has ended")

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        if self._loop is None or self.is_current_thread:
            return True
        pause = 0.001
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.02)
        return True

    def _wake_touched(self) -> None:
        self._notified = False
        while self._touched:
            self._touched.popleft().wake()

    def _end_streams(self) -> None:
        for subscription in self.subscriptions:
            subscription.end()

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _beat(self) -> None:
        self.cpu_seconds = time.thread_time()
        sent, self._beat_sent = self._beat_sent, None
        suspect, self._suspect = self._suspect, None
        if suspect is not None and sent is not None:
            self._report_blocker(*suspect, time.monotonic() - sent)

    def _name_blocker(self, seconds: float) -> None:
        assert self._loop is not None
        assert self._thread is not None
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented, and the only way
        if task is None or frame is None:
            return
        ours = traceback.extract_stack(frame)[-1]
        self._suspect = (task.get_name(), f"{ours.filename}:{ours.lineno} in {ours.name}")
        if task.get_name() not in self.blockers:
            self._report_blocker(*self._suspect, seconds)

    def _report_blocker(self, name: str, where: str, seconds: float) -> None:
        known = self.blockers.get(name)
        if known is None:
            log.warning(
                "subscriber %r has held the event loop for %.2f s at %s; other subscribers wait. "
                "Await instead of blocking, or use anyio.to_thread.run_sync",
                name,
                seconds,
                where,
            )
        if known is None or known.seconds < seconds:
            self.blockers[name] = Blocker(name, seconds, where)

    async def _run(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        current_subscriber.set(subscription.name)
        stream: EventStream[Any] = EventStream(subscription)
        pause = _FIRST_PAUSE
        while True:
            try:
                await body(stream, self._control)
            except asyncio.CancelledError:
                break
            except BaseException as error:  # noqa: BLE001 - a subscriber is isolated from the rest
                retired = on_error == "retire"
                self.report_failure(subscription.name, error, subscription, retired=retired)
                if retired:
                    break
                await anyio.sleep(pause)
                pause = min(pause * 2, _LAST_PAUSE)
            else:
                break
        subscription.retire("subscriber finished")

    def report_failure(
        self, name: str, error: BaseException, subscription: Subscription | None, *, retired: bool
    ) -> None:
        """Count a subscriber's failure; log the first with its traceback and publish it."""
        first = subscription is None or subscription.failures == 0
        if subscription is not None:
            subscription.failures += 1
        if not first:
            return
        what = "is retired" if retired else "goes on; further failures are only counted"
        log.error("subscriber %r raised and %s", name, what, exc_info=error)
        text = f"{type(error).__name__}: {error}"
        self._publish(SubscriberFailed(subscriber=name, error=text, retired=retired))


def handler_body(
    handle: Callable[[Any, Control], Awaitable[object]],
    failed: Callable[[BaseException], None],
) -> Body:
    """Make a subscriber of a function that takes one event at a time; failures do not end it."""

    async def body(stream: EventStream[Any], control: Control) -> None:
        async for event in stream:
            try:
                await handle(event, control)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - a subscriber is isolated from the rest
                failed(error)

    return body
