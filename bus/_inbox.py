"""The one place where publishing threads meet the writer thread.

`put` is called by any thread, also from inside a signal handler that interrupted another `put`,
and never waits unless asked to; `take` by the writer alone, and no publisher can hold it up. While
there is room no lock is taken: a deque's append and a counter's next are atomic. Every item
offered is taken, dropped with a count, or still pending.
"""

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from bus._deferred import Deferred
from bus._event import Event
from bus._interrupts import deferred_interrupt
from bus._requests import Request
from bus._signal import Signal

MetricsDraft: TypeAlias = tuple[float, int | None, dict[str, float]]
"""Time, step and numbers of a `MetricsLogged` that nobody may ever want to see as an object."""

Item: TypeAlias = "Event | MetricsDraft | Deferred | Question | Journalled"
OnFull: TypeAlias = Literal["drop_oldest", "block"]
"""What a full queue does: drop the oldest event with a count, or wait for the writer."""

LIGHT: Final = 4096
"""Items up to this estimate in bytes are bounded by their number alone."""

BACKLOG: Final = 1024
"""Events waiting for the writer beyond which subscribers that publish more of them wait for it.

Otherwise one of them could fill the queue and push the training thread's events out of it.
"""

EASE: Final = 0.05
"""Seconds that such a subscriber waits at most; others on its thread wait with it."""

QUEUE_FULL: Final = "queue full"
INTERRUPTED: Final = "publishing was interrupted"

_PER_VALUE: Final = 64


@dataclass(slots=True, eq=False)
class Question:
    """An event whose publisher waits for deciders; the writer journals it and passes it on.

    Attributes:
        closed: The publisher waits no longer: late answers do not count.
        answered: Set when every decider has answered.
        verdict: What they ask for; the publisher takes it when it has closed the question.
    """

    event: Event
    closed: bool
    answered: Signal
    verdict: deque[Request] = field(default_factory=deque[Request])


@dataclass(slots=True, eq=False)
class Journalled:
    """Something its publisher has journalled already; only live subscribers still want it."""

    item: Event | MetricsDraft


@dataclass(slots=True)
class Loss:
    """Items that were dropped before the writer could take them; grows until it is taken."""

    reason: str
    count: int
    first_time: float
    last_time: float


class Inbox:
    """A bounded queue from every thread to the writer.

    Args:
        max_events: Items that may wait.
        max_bytes: What heavy items (texts, histograms, hundreds of metrics) may occupy together.
        on_full: Whether the oldest item makes room or the publisher waits for the writer. Threads
            that waited may exceed the bounds by one item each.
    """

    def __init__(self, *, max_events: int, max_bytes: int, on_full: OnFull) -> None:
        self.wake = Signal()
        self.closed = False
        self.taken = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_full: OnFull = on_full
        self._count = itertools.count(1)
        self._next = self._count.__next__
        self._queue: deque[tuple[int, Item]] = deque()
        self._lifecycle: deque[tuple[int, Item]] = deque()
        self._entering: deque[tuple[int, Item, int]] = deque()
        self._sizes: dict[int, int] = {}
        # Two sums, each written by one side alone, because the writer takes no lock.
        self._heavy_in = 0
        self._heavy_out = 0
        self._losses: dict[str, Loss] = {}
        self._lost = 0
        # Pushed out of a full queue: counted without a lock, because then it happens at each call.
        self._pushed_out = itertools.count()
        self._count_pushed_out = self._pushed_out.__next__
        self._pushed_out_told = 0
        self._first_out: Item | None = None
        self._last_out: Item | None = None
        self._shown_to_nobody = itertools.count()
        self._room = Signal()
        # Re-entrant: a signal handler may publish while this very thread makes room.
        self._lock = threading.RLock()
        self._admitter: int | None = None

    @property
    def offered(self) -> int:
        """Items put so far, dropped ones included."""
        return _value(self._count) - 1

    @property
    def unshown(self) -> int:
        """Items pushed out of a full queue that are in the journal already."""
        return _value(self._shown_to_nobody)

    @property
    def pending(self) -> int:
        """Items that wait for the writer."""
        return len(self._queue) + len(self._lifecycle)

    @property
    def untold(self) -> Counter[str]:
        """Items dropped since `take_losses` was called last, by reason."""
        untold = Counter({loss.reason: loss.count for loss in list(self._losses.values())})
        if pushed_out := _value(self._pushed_out) - self._pushed_out_told:
            untold[QUEUE_FULL] = pushed_out
        return untold

    def put(self, item: Item) -> int:
        """Append a light item and return its number; drop or wait as configured when full."""
        if self.closed or len(self._queue) >= self._max_events:
            return self._put_when_full(item)
        number = self._next()
        self._queue.append((number, item))
        return number

    def put_event(self, event: Event) -> int:
        """Append an event in its lane and wake the writer if it is urgent."""
        if event.lifecycle and not self.closed:
            number = self._next()
            self._lifecycle.append((number, event))
        else:
            size = approximate_size(event)
            number = self.put(event) if size <= LIGHT else self._put_slowly(event, size)
        if event.urgent:
            self.wake.set()
        return number

    def put_last(self, event: Event | None) -> None:
        """Append the event that ends the run, if there is one, and take nothing after it."""
        with self._lock:
            self.closed = True
            if event is not None:
                self._lifecycle.append((self._next(), event))
        self.wake.set()

    def put_heavy(self, item: Item, size: int) -> int:
        """Append an item that occupies `size` bytes, by estimate."""
        return self._put_slowly(item, size)

    def ease(self, backlog: int, seconds: float) -> None:
        """Let the writer get ahead: wait while more than `backlog` items do, at most so long."""
        deadline = time.monotonic() + seconds
        while self.pending > backlog and not self.closed and time.monotonic() < deadline:
            self.wake.set()
            self._room.wait(0.005)

    def settle(self) -> None:
        """Count what a `KeyboardInterrupt` left on its way; nobody may publish or take meanwhile.

        The fast ways in cannot put off interrupts, so a number may have been given to nothing.
        """
        with self._lock:
            self._admit_entering()
            counted = self.taken + self.pending + _value(self._pushed_out) + self.unshown
            missing = self.offered - counted - self._lost
            if missing > 0:
                self._add_loss(INTERRUPTED, missing, time.time())

    def take(self, limit: int) -> list[tuple[int, Item]]:
        """Remove and return up to `limit` items in order of their numbers.

        Numbers of threads that published at the same moment may be exchanged.
        """
        items: list[tuple[int, Item]] = []
        while len(items) < limit and (entry := self._pop_first()) is not None:
            items.append(entry)
        self.taken += len(items)
        self._room.set()
        return items

    def take_losses(self) -> list[Loss]:
        """Remove and return what was dropped since the last call; what is busy comes next time."""
        losses: list[Loss] = []
        pushed_out = _value(self._pushed_out)
        if pushed_out > self._pushed_out_told and self._last_out is not None:
            first, self._first_out = self._first_out or self._last_out, None
            count = pushed_out - self._pushed_out_told
            losses.append(Loss(QUEUE_FULL, count, time_of(first), time_of(self._last_out)))
            self._pushed_out_told = pushed_out
        if self._losses and self._lock.acquire(timeout=0.1):
            try:
                losses += self._losses.values()
                self._losses = {}
            finally:
                self._lock.release()
        return losses

    def _pop_first(self) -> tuple[int, Item] | None:
        try:
            # Only the publisher that makes room pops besides us, so a failed look means it won.
            if self._lifecycle and (not self._queue or self._lifecycle[0][0] < self._queue[0][0]):
                return self._lifecycle.popleft()
            entry = self._queue.popleft()
        except IndexError:
            return self._lifecycle.popleft() if self._lifecycle else None
        if self._sizes:
            self._heavy_out += self._sizes.pop(entry[0], 0)
        return entry

    def _put_when_full(self, item: Item) -> int:
        if self.closed or self._sizes or self._on_full == "block":
            return self._put_slowly(item, 0)
        number, queue = self._next(), self._queue
        queue.append((number, item))
        try:
            dropped = queue.popleft()[1]
        except IndexError:  # pragma: no cover - the writer was faster
            return number
        if self._first_out is None or not isinstance(dropped, tuple):
            self._push_out(dropped)
        else:
            self._last_out = dropped
            self._count_pushed_out()
        return number

    def _push_out(self, item: Item) -> None:
        if isinstance(item, Journalled):
            next(self._shown_to_nobody)  # no gap: the journal has it
            return
        if self._first_out is None:
            self._first_out = item
        self._last_out = item
        self._count_pushed_out()

    def _put_slowly(self, item: Item, size: int) -> int:
        if self._on_full == "block":
            self._wait_for_room(size)
        with deferred_interrupt():
            number = self._next()
            self._entering.append((number, item, size))
            with self._lock:
                self._admit_entering()
        return number

    def _admit_entering(self) -> None:
        # A signal handler that finds its own thread here leaves the item to the call it
        # interrupted, because sums and losses are not safe to change twice at once.
        while self._entering and self._admitter is None:
            self._admitter = threading.get_ident()
            try:
                while self._entering:
                    self._admit(*self._entering.popleft())
            finally:
                self._admitter = None

    def _admit(self, number: int, item: Item, size: int) -> None:
        if self.closed:
            self._lose(item, "published after the end of the run")
            return
        while self._on_full == "drop_oldest" and self._queue and self._full(size):
            try:
                victim, dropped = self._queue.popleft()
            except IndexError:  # pragma: no cover - the writer was faster
                break
            if self._sizes:
                self._heavy_in -= self._sizes.pop(victim, 0)
            self._push_out(dropped)
        if size:
            self._sizes[number] = size
            self._heavy_in += size
        self._queue.append((number, item))

    def _full(self, size: int) -> bool:
        too_heavy = size > 0 and self._heavy_in - self._heavy_out + size > self._max_bytes
        return len(self._queue) >= self._max_events or too_heavy

    def _wait_for_room(self, size: int) -> None:
        while self._full(size) and self._queue and not self.closed:
            if self._admitter == threading.get_ident():
                return  # a signal handler: whom it interrupted cannot go on before it returns
            self.wake.set()
            self._room.wait(0.05)
        self._room.set()  # whoever waits beside us looks for itself

    def _lose(self, item: Item, reason: str) -> None:
        if isinstance(item, Journalled):
            next(self._shown_to_nobody)
            return
        self._add_loss(reason, 1, time_of(item))

    def _add_loss(self, reason: str, count: int, made: float) -> None:
        self._lost += count
        loss = self._losses.get(reason)
        if loss is None:
            self._losses[reason] = Loss(reason, count, made, made)
        else:
            loss.count += count
            loss.last_time = made


def _value(counter: "itertools.count[int]") -> int:
    """What a counter gives next: the only number that no race of two threads can set back."""
    return int(repr(counter)[len("count(") : -1])


def time_of(item: Item) -> float:
    """When an item was made, in Unix seconds."""
    if isinstance(item, tuple):
        return item[0]
    if isinstance(item, Journalled):
        return time_of(item.item)
    return item.event.time if isinstance(item, Question) else item.time


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
