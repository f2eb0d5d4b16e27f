"""One live subscriber's share of the events: a bounded buffer, filters, and the stream it reads.

The writer thread offers, the loop thread reads. Of everything offered each event is delivered,
skipped by a filter, dropped with a count, or pending.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast, get_args

from bus._errors import BusError
from bus._event import Event
from bus._options import Ranks
from bus._statistics import SubscriberStatistics

EventT = TypeVar("EventT", bound=Event)
EventT_co = TypeVar("EventT_co", bound=Event, covariant=True)
Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "latest"]
"""Which event a full buffer drops, with a count; `latest` keeps one."""

OnError: TypeAlias = Literal["restart", "retire"]
"""Whether a subscriber that raised starts again after a pause, or ends."""

When: TypeAlias = Callable[[Any], bool]

_YIELD_EVERY: Final = 32


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a subscriber sees; all conditions must hold.

    Attributes:
        types: Classes of events, subclasses included.
        when: A predicate; it runs on the subscriber's side, never on the training thread.
        every: Only each n-th of the events that pass the conditions above and below.
        once: Only the first.
        before: Only events of steps before this one.
        after: Only events of steps after this one.
    """

    types: tuple[type[Event], ...]
    when: When | None = None
    every: int = 1
    once: bool = False
    before: int | None = None
    after: int | None = None

    def __post_init__(self) -> None:
        if not self.types:
            raise ValueError("subscribe to at least one event class, for example MetricsLogged")
        for each in self.types:
            given = cast("object", each)
            if not (isinstance(given, type) and issubclass(given, Event)):
                raise TypeError(f"{each!r} is no event class; pass classes such as MetricsLogged")
        if self.when is not None and not callable(cast("object", self.when)):
            raise TypeError(f"when={self.when!r} must be a function of an event")
        if self.every < 1:
            raise ValueError(f"every={self.every} must be 1 or more")

    def in_range(self, event: Event) -> bool:
        """Whether the step lies between `after` and `before`; an event without one does not."""
        if self.before is None and self.after is None:
            return True
        step = event.step
        return (
            step is not None
            and (self.before is None or step < self.before)
            and (self.after is None or step > self.after)
        )


class Subscription:
    """The buffer between the writer thread, which offers, and one subscriber, which reads."""

    def __init__(
        self,
        name: str,
        filters: Filter,
        *,
        buffer: int = 1024,
        overflow: Overflow = "drop_oldest",
        ranks: Ranks = "zero",
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer={buffer} must be 1 or more")
        if overflow not in get_args(Overflow):
            known = ", ".join(get_args(Overflow))
            raise ValueError(f"overflow={overflow!r} must be one of {known}")
        if ranks not in get_args(Ranks):
            raise ValueError(f'ranks={ranks!r} must be "zero" or "all"')
        self.name = name
        self.filter = filters
        self.ranks: Ranks = ranks
        self.offered: int = 0
        self.delivered: int = 0
        self.skipped: int = 0
        self.failures: int = 0
        self.dropped: Counter[str] = Counter()
        self.retired: bool = False
        self.waiting: bool = False
        self._buffer: deque[Event] = deque()
        self._size = 1 if overflow == "latest" else buffer
        self._overflow: Overflow = overflow
        self._matched = 0
        self._turns = 0
        self._finished = False
        self._ended = False
        self._wake: asyncio.Event | None = None

    @property
    def pending(self) -> int:
        """Events that wait to be read."""
        return len(self._buffer)

    @property
    def idle(self) -> bool:
        """Whether everything offered was read and dealt with, as far as can be seen here."""
        return self.retired or (not self._buffer and self.waiting)

    def account(self, blocked_seconds: float) -> SubscriberStatistics:
        """What became of everything offered.

        Args:
            blocked_seconds: The longest it held the event loop.
        """
        return SubscriberStatistics(
            offered=self.offered,
            delivered=self.delivered,
            skipped=self.skipped,
            dropped=dict(self.dropped),
            pending=self.pending,
            failures=self.failures,
            blocked_seconds=blocked_seconds,
        )

    def offer(self, event: Event) -> bool:
        """Put an event in the buffer, by the writer thread alone; tell whether it was taken."""
        if self.retired or self._finished:
            return False
        self.offered += 1
        if len(self._buffer) >= self._size:
            if self._overflow == "drop_newest":
                self.dropped["buffer full"] += 1
                return True
            try:
                self._buffer.popleft()
            except IndexError:  # pragma: no cover - the reader was faster
                pass
            else:
                self.dropped["superseded" if self._overflow == "latest" else "buffer full"] += 1
        self._buffer.append(event)
        return True

    def wake(self) -> None:
        """Let a waiting reader look again; on the loop thread."""
        if self._wake is not None:
            self._wake.set()

    def end(self) -> None:
        """Let the reader finish its backlog and then see the end; on the loop thread."""
        self._ended = True
        self.wake()

    def retire(self, reason: str) -> None:
        """Nobody reads any more: what is left is dropped with that reason."""
        self.retired = True
        while self._pop() is not None:
            self.dropped[reason] += 1

    async def receive(self) -> Event:
        """The next event that passes the filter; on the loop thread.

        Raises:
            StopAsyncIteration: The run is over, or `once` was satisfied.
        """
        self._wake = self._wake or asyncio.Event()
        while True:
            if self._finished:
                while self._pop() is not None:
                    self.skipped += 1
                raise StopAsyncIteration
            self._turns += 1
            if self._turns % _YIELD_EVERY == 0:
                await asyncio.sleep(0)  # a full buffer must not starve the other subscribers
            event = await self._next()
            if self._passes(event):
                self.delivered += 1
                self._finished = self.filter.once
                return event
            self.skipped += 1

    async def _next(self) -> Event:
        assert self._wake is not None
        while (event := self._pop()) is None:
            if self._ended and not self._buffer:
                raise StopAsyncIteration
            self._wake.clear()
            self.waiting = True
            try:
                await self._wake.wait()
            finally:
                self.waiting = False
        return event

    def _pop(self) -> Event | None:
        try:
            return self._buffer.popleft()
        except IndexError:  # nothing there, or the writer thread has just taken it to make room
            return None

    def _passes(self, event: Event) -> bool:
        condition = self.filter
        if not condition.in_range(event):
            return False
        if condition.when is not None and not self._ask(condition.when, event):
            return False
        self._matched += 1
        return self._matched % condition.every == 0

    def _ask(self, when: When, event: Event) -> bool:
        try:
            return bool(when(event))
        except BaseException as error:
            self.skipped += 1  # the event is accounted for before the failure takes its way
            if isinstance(error, StopAsyncIteration):
                # It would end the stream as if nothing were wrong.
                raise BusError("a predicate raised StopAsyncIteration") from error
            raise


class EventStream(Generic[EventT_co]):
    """What a subscriber iterates. It ends when the run does, after its backlog was read.

    An object and not a generator, so that leaving the loop early leaves nothing unclosed.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    @property
    def pending(self) -> int:
        """Events that wait to be read."""
        return self._subscription.pending

    def __aiter__(self) -> "EventStream[EventT_co]":
        return self

    async def __anext__(self) -> EventT_co:
        return cast("EventT_co", await self._subscription.receive())
