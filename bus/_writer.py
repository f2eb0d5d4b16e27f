"""The writer thread: takes events from the inbox, journals them, then shows them around.

A plain thread without an event loop and without users' code, so that nothing can hold it up but
the disk. Events reach the journal's memory before any live subscriber sees them.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bus._deciders import Deciders
from bus._deferred import Arrival, DeferredEvent, DeferredMetrics, SideQueue
from bus._event import Event, encode, encode_metrics
from bus._events import Gap
from bus._hooks import MetricsLogged
from bus._inbox import Inbox, Item, Journalled, MetricsDraft, Question, time_of
from bus._journal import Journal
from bus._live import LiveLoop
from bus._mailbox import Mailbox
from bus._signal import Signal

log = logging.getLogger("bus")

_SLICE: Final = 256
"""Events between two writes. Writing gives the GIL back, so a slice bounds how long we keep it."""

_SLICES: Final = 16
"""Slices in one turn at most: a flood must not starve the rest of it."""

_BEAT: Final = 0.05
"""Seconds between two beats at most."""

_DRAFTED: Final = {"time", "step", "metrics"}

NO_ANSWER: Final = "device did not answer"
LATE: Final = "published after the end of the run"


@dataclass(slots=True)
class _Errand:
    """Something another thread waits for: everything published before it is written.

    Attributes:
        before: Items that were in the inbox when it was first seen and may still be there. Counting
            them keeps a subscriber that publishes faster than we write from deferring it for ever.
    """

    done: Signal
    device_deadline: float | None
    before: int | None = None


class Writer:
    """Runs the writer thread.

    Args:
        interval: Seconds between two looks at the inbox when nothing is urgent.
        fsync: Seconds between two syncs to disk; None to leave that to the system.
        reject: Told of keys that cannot be journalled, with the reason.
    """

    def __init__(
        self,
        inbox: Inbox,
        live: LiveLoop,
        deciders: Deciders,
        *,
        interval: float,
        fsync: float | None,
        device_limit: int,
        reject: Callable[[str, str], None],
    ) -> None:
        self.cpu_seconds = 0.0
        self.lag_seconds = 0.0
        self.written_through = 0
        self.lost: Counter[str] = Counter()
        self.last: Event | None = None
        self.beat: Callable[[], object] | None = None
        """Called in every turn, several times a second: what ranks have to agree on."""
        self.mailbox: Mailbox | None = None
        """Where other processes ask; looked into in every turn."""
        self._over = False
        self._inbox = inbox
        self._journal: Journal | None = None
        self._live = live
        self._deciders = deciders
        self._interval = interval
        self._fsync = fsync
        self._reject = reject
        self._side = SideQueue(device_limit)
        self._errands: list[_Errand] = []
        self._stopping = False
        self._beat_failed = False
        self._ended = False
        self._synced_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="hotloop-writer", daemon=True)

    @property
    def device_pending(self) -> int:
        """Events that wait for values from a device."""
        return len(self._side)

    def start(self, journal: Journal | None) -> None:
        """Start the thread; it keeps events in the journal, if there is one."""
        self._journal = journal
        self._thread.start()

    def drain(self, deadline: float, *, device_deadline: float | None = None) -> bool:
        """Wait until everything published so far is with the journal and with its subscribers.

        Args:
            deadline: When to stop waiting, on the monotonic clock.
            device_deadline: When values that have not arrived from a device become a gap; None to
                leave them waiting.

        Returns:
            Whether it happened in time.
        """
        # Not `is_alive`: where Ctrl-C interrupts it, Python 3.11 takes the thread for ended.
        if self._ended or threading.current_thread() is self._thread:
            return False
        errand = _Errand(Signal(), device_deadline)
        self._errands.append(errand)
        self._inbox.wake.set()
        return errand.done.wait(max(0.0, deadline - time.monotonic()))

    def stop(self, deadline: float) -> bool:
        """Write what is left and end the thread; tell whether it ended in time."""
        self._stopping = True
        self._inbox.wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._ended

    def abandon(self) -> None:
        """Nothing runs any more: this is a forked child."""
        self._ended = True

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended = True

    def _work(self) -> None:
        while True:
            self._inbox.wake.wait(self._pause())
            self._inbox.wake.clear()
            stopping = self._stopping
            self._beat()
            try:
                self._turn()
            except Exception:
                log.exception("the writer thread failed; it goes on")
            self.cpu_seconds = time.thread_time()
            if stopping and not self._inbox.pending:
                break
        if self._journal is not None:
            if self._fsync is not None:
                self._journal.sync()
            self._journal.close()

    def _pause(self) -> float:
        if self._inbox.pending > _SLICE:
            return 0.0
        interval = self._interval if self.beat is None else min(self._interval, _BEAT)
        return min(interval, 0.005) if self._errands else interval

    def _beat(self) -> None:
        try:
            if self.beat is not None:
                self.beat()
        except Exception:
            if not self._beat_failed:  # many times a second, if it goes on
                log.exception("agreeing with the other ranks failed; it is tried again")
            self._beat_failed = True
        else:
            self._beat_failed = False

    def _turn(self) -> None:
        errands = list(self._errands)
        for errand in errands:
            if errand.before is None:
                errand.before = self._inbox.pending
        self._note_losses()
        taken = self._take_items()
        for arrival in self._side.arrived():
            if self._over:
                self.lost[LATE] += 1
            elif isinstance(arrival, Arrival):
                self._accept_arrival(arrival)
            else:
                self._accept_event(arrival)
        if any(_over(errand.device_deadline) for errand in errands):
            self._side.give_up()
        self._note_unanswered()
        self._write()
        self._live.watch(self._interval)
        if self.mailbox is not None:
            self.mailbox.look()
        self._sync()
        self._finish(errands, taken)

    def _take_items(self) -> int:
        taken = 0
        for _ in range(_SLICES):
            items = self._inbox.take(_SLICE)
            if not items:
                break
            taken += len(items)
            self.lag_seconds = max(0.0, time.time() - time_of(items[0][1]))
            for _, item in items:
                if self._over:
                    self.lost[LATE] += 1
                else:
                    self._accept_safely(item)
                    self._over = item is self.last
            self._write()
            self.written_through = items[-1][0]
        return taken

    def _finish(self, errands: list[_Errand], taken: int) -> None:
        emptied = not self._inbox.pending
        for errand in errands:
            errand.before = 0 if emptied else (errand.before or 0) - taken
            if errand.before <= 0 and (errand.device_deadline is None or not len(self._side)):
                self._errands.remove(errand)
                errand.done.set()

    def _accept_safely(self, item: Item) -> None:
        """Whatever one item does, the rest of its slice goes on."""
        try:
            self._accept(item)
        except Exception as error:
            log.exception("an event could not be handled; it becomes a gap")
            self._gap(f"could not be handled: {type(error).__name__}", time_of(item))

    def _accept(self, item: Item) -> None:
        if isinstance(item, tuple):
            self._accept_draft(item)
        elif isinstance(item, (DeferredMetrics, DeferredEvent)):
            self._side.add(item)
        elif isinstance(item, Question):
            self._accept_event(item.event)
            self._deciders.ask(item)
        elif isinstance(item, Journalled):
            self._show(item.item)
        else:
            self._accept_event(item)

    def _accept_draft(self, draft: MetricsDraft) -> None:
        if self._side.blocks(draft[2]):
            made, step, metrics = draft
            self._side.add(DeferredMetrics(made, step, metrics, frozenset(metrics), None))
        elif (encoded := self.encode_draft(draft)) is not None:
            self._append(encoded, draft[0])
            if self._live.subscriptions:
                self._show(draft)

    def _accept_arrival(self, arrival: Arrival) -> None:
        draft = (arrival.time, arrival.step, arrival.metrics)
        if (encoded := self.encode_draft(draft)) is not None:
            self._append(encoded, arrival.time)
            self._show(draft)

    def encode_draft(self, draft: MetricsDraft) -> bytes | None:
        """Encode metrics; keys that cannot be are taken out of them and reported.

        Returns:
            The line, or None if nothing is left of it.
        """
        made, step, metrics = draft
        try:
            return encode_metrics(made, step, metrics)
        except TypeError:
            for key in [key for key in metrics if not _is_text(key)]:
                del metrics[key]
                self._reject(repr(key), "a metric's name must be a well-formed string")
            if metrics:
                return encode_metrics(made, step, metrics)
            self._gap("no metric of it has a name that can be written", made)
            return None

    def _accept_event(self, event: Event) -> None:
        if event.durable and self._journal is not None:
            try:
                encoded = encode(event)
            except Exception as error:  # noqa: BLE001 - a user's field may fail to serialize in any way
                self._gap(f"{event.type} could not be encoded: {error}"[:300], event.time)
                return
            self._append(encoded, event.time, keep=event.lifecycle)
        self._live.offer(event)

    def _append(self, encoded: bytes, made: float, *, keep: bool = False) -> None:
        if self._journal is not None:
            self._journal.append(encoded, made, keep=keep)

    def _show(self, item: Event | MetricsDraft) -> None:
        if isinstance(item, Event):
            self._live.offer(item)
        elif self._live.wants(MetricsLogged):
            made, step, metrics = item
            # Checked on their way in, so that they need not be validated once more.
            event = MetricsLogged.model_construct(
                _DRAFTED, type="metrics_logged", time=made, step=step, metrics=metrics
            )
            self._live.offer(event)

    def _write(self) -> None:
        if self._journal is not None:
            self._journal.flush(force=self._stopping)
            for gap in self._journal.take_new_gaps():
                self._live.offer(gap)
        self._live.notify()

    def _gap(self, reason: str, made: float, count: int = 1, last: float | None = None) -> None:
        if self._over:
            self.lost[reason] += count
            return
        gap = Gap(reason=reason, count=count, first_time=made, last_time=last or made)
        if self._journal is not None:
            self._journal.record_gap(gap)
        else:
            self.lost[reason] += count
            self._live.offer(gap)

    def _note_losses(self) -> None:
        for loss in self._inbox.take_losses():
            if loss.reason.startswith(LATE):  # counted only: the journal ends with RunEnded
                self.lost[loss.reason] += loss.count
                continue
            self._gap(loss.reason, loss.first_time, loss.count, loss.last_time)

    def _note_unanswered(self) -> None:
        given_up, self._side.given_up = self._side.given_up, []
        if given_up:
            self._gap(NO_ANSWER, given_up[0].time, len(given_up), given_up[-1].time)

    def _sync(self) -> None:
        if self._journal is None or self._fsync is None:
            return
        if time.monotonic() - self._synced_at >= self._fsync:
            self._journal.sync()
            self._synced_at = time.monotonic()


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _is_text(key: object) -> bool:
    if not isinstance(key, str):
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
