"""The one place where publishing threads meet the writer thread.

`put` is called by any thread, also from inside a signal handler that interrupted another `put`,
and never waits unless asked to; `take` by the writer alone. No lock is taken while there is room:
a deque's append and a counter's next are atomic. Every item offered is taken, dropped with a
count, or still pending.
"""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from bus._deferred import DeferredMetrics
from bus._event import Event

MetricsDraft: TypeAlias = tuple[float, int | None, dict[str, float]]
"""Time, step and numbers of a `MetricsLogged` that nobody may ever want to see as an object."""

Item: TypeAlias = "Event | MetricsDraft | DeferredMetrics | Question | Journalled"
OnFull: TypeAlias = Literal["drop_oldest", "block"]

LIGHT: Final = 4096
"""Items up to this estimate in bytes are bounded by their number alone."""

_PER_VALUE: Final = 64


@dataclass(slots=True, eq=False)
class Question:
    """An event whose publisher waits for deciders; the writer journals it and passes it on.

    Attributes:
        closed: The publisher waits no longer: late answers do not count.
        answered: Set when every decider has answered.
    """

    event: Event
    closed: bool
    answered: threading.Event


@dataclass(slots=True, eq=False)
class Journalled:
    """Something its publisher has journalled already; only live subscribers still want it."""

    item: Event | MetricsDraft


@dataclass(frozen=True, slots=True)
class Loss:
    """Items that were dropped before the writer could take them."""

    reason: str
    count: int
    first_time: float
    last_time: float


class Inbox:
    """A bounded queue from every thread to the writer.

    Args:
        max_events: Items that may wait.
        max_bytes: What heavy items (texts, histograms, hundreds of metrics) may occupy together.
        on_full: Whether the oldest item makes room or the publisher waits for the writer.
    """

    def __init__(self, *, max_events: int, max_bytes: int, on_full: OnFull) -> None:
        self.wake = threading.Event()
        self.closed = False
        self.taken = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_full: OnFull = on_full
        self._next = itertools.count(1).__next__
        self._queue: deque[tuple[int, Item]] = deque()
        self._lifecycle: deque[tuple[int, Item]] = deque()
        self._offered = 0
        self._heavy_bytes = 0
        self._losses: dict[str, Loss] = {}
        self._room = threading.Event()
        # Re-entrant: a signal handler may publish while this very thread makes room.
        self._lock = threading.RLock()

    @property
    def offered(self) -> int:
        """Items put so far, dropped ones included."""
        return self._offered

    @property
    def pending(self) -> int:
        """Items that wait for the writer."""
        return len(self._queue) + len(self._lifecycle)

    @property
    def untold(self) -> Counter[str]:
        """Items dropped since `take_losses` was called last, by reason."""
        return Counter({loss.reason: loss.count for loss in list(self._losses.values())})

    def put(self, item: Item) -> int:
        """Append a light item and return its number; drop or wait as configured when full."""
        if self.closed or len(self._queue) >= self._max_events:
            return self._put_slowly(item, 0)
        number = self._offered = self._next()
        self._queue.append((number, item))
        return number

    def put_event(self, event: Event) -> int:
        """Append an event in its lane and wake the writer if it is urgent."""
        if event.lifecycle and not self.closed:
            number = self._offered = self._next()
            self._lifecycle.append((number, event))
        else:
            size = approximate_size(event)
            number = self.put(event) if size <= LIGHT else self._put_slowly(event, size)
        if event.urgent:
            self.wake.set()
        return number

    def put_heavy(self, item: Item, size: int) -> int:
        """Append an item that occupies `size` bytes, by estimate."""
        return self._put_slowly(item, size)

    def take(self, limit: int) -> list[tuple[int, Item]]:
        """Remove and return up to `limit` items in order of their numbers."""
        items: list[tuple[int, Item]] = []
        while len(items) < limit and (entry := self._pop_first()) is not None:
            items.append(entry)
        self.taken += len(items)
        self._room.set()
        return items

    def take_losses(self) -> list[Loss]:
        """Remove and return what was dropped since the last call."""
        if not self._losses:
            return []
        with self._lock:
            losses, self._losses = list(self._losses.values()), {}
        return losses

    def _pop_first(self) -> tuple[int, Item] | None:
        try:
            # Only the publisher that makes room pops besides us, so a failed look means it won.
            if self._lifecycle and (not self._queue or self._lifecycle[0][0] < self._queue[0][0]):
                return self._lifecycle.popleft()
            entry = self._queue.popleft()
        except IndexError:
            return self._lifecycle.popleft() if self._lifecycle else None
        self._forget(entry[1])
        return entry

    def _put_slowly(self, item: Item, size: int) -> int:
        if self._on_full == "block" and not self.closed:
            self._wait_for_room(size)
        with self._lock:
            number = self._offered = self._next()
            if self.closed:
                self._lose(item, "published after the end of the run")
                return number
            while self._queue and self._full(size):
                try:
                    victim = self._queue.popleft()[1]
                except IndexError:  # pragma: no cover - the writer was faster
                    break
                self._forget(victim)
                self._lose(victim, "queue full")
            if size:
                self._heavy_bytes += size
            self._queue.append((number, item))
        return number

    def _full(self, size: int) -> bool:
        too_heavy = size > 0 and self._heavy_bytes + size > self._max_bytes
        return len(self._queue) >= self._max_events or too_heavy

    def _wait_for_room(self, size: int) -> None:
        while self._full(size) and self._queue and not self.closed:
            self._room.clear()
            self.wake.set()
            self._room.wait(0.05)

    def _forget(self, item: Item) -> None:
        if self._heavy_bytes and (size := _heavy_size(item)):
            with self._lock:
                self._heavy_bytes -= size

    def _lose(self, item: Item, reason: str) -> None:
        time = time_of(item)
        old = self._losses.get(reason)
        first, count = (old.first_time, old.count) if old else (time, 0)
        self._losses[reason] = Loss(reason, count + 1, first, time)


def time_of(item: Item) -> float:
    """When an item was made, in Unix seconds."""
    if isinstance(item, tuple):
        return item[0]
    if isinstance(item, Journalled):
        return time_of(item.item)
    return item.event.time if isinstance(item, Question) else item.time


def _heavy_size(item: Item) -> int:
    size = approximate_size(item) if isinstance(item, Event) else 0
    if isinstance(item, tuple):
        size = len(item[2]) * _PER_VALUE
    return size if size > LIGHT else 0


def draft_size(metrics: dict[str, float]) -> int:
    """What a draft occupies, by estimate in bytes; 0 if it is light."""
    size = len(metrics) * _PER_VALUE
    return size if size > LIGHT else 0


def approximate_size(event: Event) -> int:
    """What an event occupies, by estimate in bytes; looks one level deep and copies nothing."""
    return sum(_value_size(value) for value in event.__dict__.values())


def _value_size(value: object) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        values = cast("Iterable[object]", value.values())
        return sum(_PER_VALUE + _length(each) for each in values)
    if isinstance(value, (list, tuple)):
        return sum(_PER_VALUE + _length(each) for each in cast("Iterable[object]", value))
    return 16


def _length(value: object) -> int:
    return len(cast("Sized", value)) if isinstance(value, (str, bytes, list, dict)) else 0
