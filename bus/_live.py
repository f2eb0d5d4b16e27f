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
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio

from bus._control import Control, current_subscriber
from bus._event import Event
from bus._events import SubscriberFailed
from bus._statistics import SubscriberStatistics
from bus._subscription import EventStream, OnError, Subscription

log = logging.getLogger("bus")

BLOCKED_AFTER: Final = 0.1
"""Seconds the loop may not answer before whoever holds it is named."""

UNREAD: Final = "not read before the end of the run"
"""Why a subscriber's events are dropped when closing has no more time for it."""

_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 30.0
_LAST_WORD: Final = 0.2
_ERROR_LENGTH: Final = 2000

Body: TypeAlias = Callable[[EventStream[Any], Control], Awaitable[None]]
"""A subscriber: it reads a stream of events and may ask for something."""


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
        self._deliveries: set[asyncio.Task[None]] = set()
        self._touched: deque[Subscription] = deque()
        self._notified = False
        self._answered = True
        self._silent = 0.0  # seconds
        self._looked_at = 0.0
        self._suspect: tuple[str, str] | None = None
        self._starting = threading.Lock()
        self._loaded = threading.Event()
        self._closing = asyncio.Event()
        self._cancelled = False
        self._stopped = False

    @property
    def running(self) -> bool:
        """Whether the thread exists; it starts with the first subscriber."""
        return self._thread is not None

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs on the loop thread."""
        return threading.current_thread() is self._thread

    @property
    def accounts(self) -> dict[str, SubscriberStatistics]:
        """Each subscriber's account, by name."""
        blocked = {name: blocker.seconds for name, blocker in self.blockers.items()}
        return {each.name: each.account(blocked.get(each.name, 0.0)) for each in self.subscriptions}

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody subscribed to events of this class."""
        return bool(self._subscribed(kind))

    def add(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        """Start a subscriber; from any thread."""
        self.subscriptions = [*self.subscriptions, subscription]
        self._by_type = {}  # built anew by whoever looks next
        self.start_task(subscription.name, lambda: self._run(subscription, body, on_error))

    def start_task(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a subscriber's or decider's coroutine on the loop; from any thread."""
        self._start_task(name, make, self._tasks)

    def start_delivery(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine on the loop that `finish` neither waits for nor names."""
        self._start_task(name, make, self._deliveries)

    def _start_task(
        self,
        name: str,
        make: Callable[[], Coroutine[Any, Any, None]],
        into: "set[asyncio.Task[None]]",
    ) -> None:
        def start() -> None:
            task = loop.create_task(make(), name=name)
            into.add(task)
            task.add_done_callback(into.discard)

        loop = self._start()
        self.call(start)

    def offer(self, event: Event) -> None:
        """Put an event into the buffer of everyone who subscribed to it; by the writer thread."""
        for subscription in self._subscribed(type(event)):
            if subscription.offer(event) and subscription not in self._touched:
                self._touched.append(subscription)

    def notify(self) -> None:
        """Wake the loop if anything was offered; by the writer thread."""
        if self._touched and not self._notified and self._loop is not None:
            self._notified = True
            self.call(self._wake_touched)

    def watch(self, interval: float) -> None:
        """Look whether the loop still answers, and name who holds it; by the writer thread.

        Where the writer thread itself comes late, because the process was stopped or the machine is
        too busy, nobody is blamed for that time.

        Args:
            interval: Seconds between two looks, when nothing delays this thread.
        """
        if self._loop is None:
            return
        before, self._looked_at = self._looked_at, time.monotonic()
        if self._answered:
            self._answered = False
            self._silent = 0.0
            self.call(self._beat)
            return
        self._silent += min(self._looked_at - before, 2 * interval)
        if self._silent > BLOCKED_AFTER:
            self._name_blocker(self._silent)

    def catch_up(self, deadline: float) -> bool:
        """Wait until every subscriber has read its backlog; tell whether all have in time.

        From here on nobody pauses before a subscriber starts again, and a failure retires it.
        """
        if self._loop is not None:
            self.call(self._closing.set)
        return self.wait(lambda: all(each.idle for each in self.subscriptions), deadline)

    def end_before(self, last: type[Event], deadline: float) -> bool:
        """End the streams that do not carry the run's last event, and wait for their subscribers.

        What these publish when their stream has ended still comes before that event.
        """
        ending = [s for s in self.subscriptions if not issubclass(last, s.filter.types)]
        if self._loop is None or not ending:
            return True
        self.call(lambda: _end(ending))
        return self.wait(lambda: all(each.retired for each in ending), deadline)

    def end_streams(self) -> None:
        """End every stream behind what it carries, and wait for nobody."""
        if self._loop is not None:
            self.call(lambda: _end(self.subscriptions))

    def finish(self, deadline: float) -> list[str]:
        """End every stream, wait for the subscribers, stop the loop.

        Returns:
            The names of subscribers that were still busy at the deadline and were abandoned.
        """
        if self._loop is None:
            return []
        if self.is_current_thread:  # a subscriber closes the run: it cannot wait for itself
            threading.Thread(
                target=self.finish, args=(deadline,), name="hotloop-finish", daemon=True
            ).start()
            return []
        self.call(lambda: _end(self.subscriptions))
        self.wait(lambda: not self._tasks, deadline)
        late = sorted(task.get_name() for task in list(self._tasks))
        self.call(self._cancel_all)
        self.wait(lambda: not self._tasks, min(deadline + 0.5, time.monotonic() + 0.5))
        for subscription in self.subscriptions:
            subscription.retire(UNREAD)
        self.call(self._stop)
        if self._thread is not None:
            self._thread.join(max(0.0, min(0.5, deadline + 1.0 - time.monotonic())))
        return late

    def _subscribed(self, kind: type[Event]) -> tuple[Subscription, ...]:
        known = self._by_type  # taken first: what is found now must not outlive a later change
        found = known.get(kind)
        if found is None:
            found = known[kind] = tuple(
                each
                for each in self.subscriptions
                if not each.retired and issubclass(kind, each.filter.types)
            )
        return found

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(loop,), name="hotloop-live", daemon=True
                )
                self._loop = loop
                self._thread.start()
                self._loaded.wait()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        # The first use loads anyio's backend, for which a subscriber would be called slow; and in a
        # process that is forked meanwhile nobody could load it any more, its lock being held.
        try:
            anyio.run(anyio.sleep, 0)
        finally:
            self._loaded.set()
        asyncio.set_event_loop(loop)
        while not self._stopped:
            try:
                loop.run_forever()
            except BaseException:
                # SystemExit of a task that a subscriber started would end everybody's loop.
                log.exception("something that a subscriber started left the event loop; it goes on")
        self._let_go(loop)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what subscribers left behind, give everything a last word, close the loop."""
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            _run_last(loop, asyncio.wait(left, timeout=_LAST_WORD))
        _run_last(loop, loop.shutdown_asyncgens())
        loop.close()  # asyncio names what is still pending when it is collected

    def call(self, function: Callable[[], object]) -> None:
        """Call something on the loop's thread, soon; nothing happens when that has ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("the loop thread has ended")

    def wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait for something that happens on the loop's thread; True at once if this is it."""
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

    def _cancel_all(self) -> None:
        self._cancelled = True
        for task in self._tasks | self._deliveries:
            task.cancel()

    def _stop(self) -> None:
        assert self._loop is not None
        self._stopped = True
        self._loop.stop()

    def _beat(self) -> None:
        self.cpu_seconds = time.thread_time()
        suspect, self._suspect = self._suspect, None
        if suspect is not None:
            self._report_blocker(*suspect, self._silent)
        self._answered = True

    def _name_blocker(self, seconds: float) -> None:
        assert self._loop is not None
        assert self._thread is not None
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented, and the only way
        if task is None or frame is None:
            return
        code = frame.f_code  # not `traceback`, which reads source files: this is the writer thread
        where = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
        self._suspect = (task.get_name(), where)
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
        try:
            await self._repeat(subscription, body, on_error)
        finally:
            subscription.retire(UNREAD if self._cancelled else "subscriber finished")
            self._by_type = {}  # perhaps nobody wants its events any more

    async def _repeat(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        stream: EventStream[Any] = EventStream(subscription)
        pause = _FIRST_PAUSE
        while True:
            try:
                await body(stream, self._control)
            except BaseException as error:  # noqa: BLE001 - a subscriber is isolated from the rest
                if self._cancelled and isinstance(error, (asyncio.CancelledError, GeneratorExit)):
                    return
                retired = on_error == "retire" or self._closing.is_set()
                self.report_failure(subscription.name, error, subscription, retired=retired)
                if retired:
                    return
            else:
                return
            with anyio.move_on_after(pause):
                await self._closing.wait()
            pause = min(pause * 2, _LAST_PAUSE)

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
        text = _described(error)
        self._publish(SubscriberFailed(subscriber=name, error=text, retired=retired))


def _run_last(loop: asyncio.AbstractEventLoop, words: Coroutine[Any, Any, object]) -> None:
    try:
        loop.run_until_complete(words)
    except BaseException:
        # SystemExit of a subscriber's task, as while the loop ran; the rest still has its word.
        log.exception("something that a subscriber left behind raised when it was ended")


def _end(subscriptions: Iterable[Subscription]) -> None:
    for subscription in subscriptions:
        subscription.end()


def _described(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"[:_ERROR_LENGTH]
    except BaseException as second:  # noqa: BLE001 - `__str__` is user code and may fail in any way
        return f"{kind}, whose text raised {type(second).__name__}"
