"""Puts the parts together: one bus for one attempt and rank of a run."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bus._account import Account
from bus._control import Control
from bus._deciders import Decider, Deciders, new_question
from bus._deferred import DeferredEvent, DeferredMetrics, DeviceEvent, DeviceValues
from bus._errors import ClosedError
from bus._event import Event
from bus._events import RunEnded
from bus._inbox import BACKLOG, EASE, Inbox, MetricsDraft, draft_size
from bus._interrupts import deferred_interrupt
from bus._journal import Journal
from bus._leases import Leases
from bus._live import UNREAD, Body, LiveLoop
from bus._mailbox import Mailbox
from bus._options import BusOptions
from bus._outlets import Outlets
from bus._registration import Registrar
from bus._statistics import DeciderStatistics, LatencyHistogram, Statistics
from bus._subscription import OnError, Subscription
from bus._through import WriteThrough
from bus._writer import LATE, Writer

if TYPE_CHECKING:
    from bus._sink import Sink, SinkContext

log = logging.getLogger("bus")


class Bus(Registrar):
    """The way of events and of decisions inside one process.

    Publishing, requesting and subscribing may happen on any thread. Nothing here knows torch.

    Args:
        journal_folder: Where to keep events; None for a bus without memory.
        rank: This process's rank in the run.
        attempt: Which turn at the run this is.
        options: Latency, safety and memory.
        held: Whether nothing may be published yet, until `begin` says where to keep it.
    """

    def __init__(
        self,
        journal_folder: Path | None,
        *,
        rank: int = 0,
        attempt: int = 1,
        options: BusOptions | None = None,
        held: bool = False,
    ) -> None:
        options = options or BusOptions()
        self.options = options
        self.latency: LatencyHistogram = LatencyHistogram()
        self.control: Control = Control(self.publish)
        self._inbox = Inbox(
            max_events=options.queue_events,
            max_bytes=options.queue_bytes,
            on_full=options.on_full,
        )
        self._journal: Journal | None = None
        self._live = LiveLoop(self.control, self.publish)
        self._outlets = Outlets(
            self._live, self._tell_health, self.control.request, deliver=options.deliver
        )
        self._deciders = Deciders(self._live, self.control)
        self._rejected: dict[str, str] = {}
        self._rejected_count = 0
        self._late = 0
        self._leases: Leases | None = None
        self._rank = rank
        self._questions = 0
        self._started = time.monotonic()
        self._closed = False
        self._abandoned = False
        self._lock = threading.Lock()
        self._writer = Writer(
            self._inbox,
            self._live,
            self._deciders,
            interval=options.flush_interval,
            fsync=options.fsync,
            device_limit=options.device_events,
            reject=self.reject,
        )
        # Through to the disk, once there is a journal and if that is wanted.
        self._through: WriteThrough | None = None
        # The hot path of `runtime.Run.log`: one bound method less on it.
        self.put_draft: Callable[[MetricsDraft], int] = self._inbox.put
        if not held:
            self.begin(journal_folder, rank=rank, attempt=attempt)

    def begin(self, journal_folder: Path | None, *, rank: int = 0, attempt: int = 1) -> None:
        """Keep events from here on; once, and only if held.

        Args:
            journal_folder: Where to keep events; None for a bus without memory.
            rank: This process's rank in the run.
            attempt: Which turn at the run this is.
        """
        if journal_folder is not None:
            self._journal = Journal(
                journal_folder,
                rank=rank,
                attempt=attempt,
                segment_bytes=self.options.segment_bytes,
                buffer_bytes=self.options.buffer_bytes,
                quota_bytes=self.options.quota_bytes,
            )
            self._outlets.run_dir = journal_folder.parent
            asks = self.control.request
            self._writer.mailbox = Mailbox(journal_folder.parent, asks, clear=rank == 0)
            if self.options.durability == "write":
                self._through = WriteThrough(self._inbox, self._journal, self._writer.encode_draft)
                self.put_draft = self._through.put_draft
        self._writer.start(self._journal)

    def agree(self, leases: Leases) -> None:
        """Decide together with the other ranks; before `begin`.

        What any rank requests takes effect on all of them at the same safe point. Deciders are
        asked on rank 0 alone, and the others wait for their verdict.
        """
        self._leases, self._rank = leases, leases.rank
        self._writer.beat = leases.extend
        self.control.agree(leases, self._inbox.wake.set)

    def wants(self, kind: type[Event]) -> bool:
        """Whether publishing an event of this class reaches anybody: live or the journal."""
        return kind.durable or self._live.wants(kind) or bool(self._deciders.of(kind))

    def publish(self, event: Event) -> None:
        """Put an event on its way; waits for its deciders if it has any, and for nothing else."""
        if self._abandoned:
            return
        if self._deciders.all and self._must_wait(event):
            self._publish_and_wait(event)
            return
        if not event.durable and not self._live.wants(type(event)):
            return
        if self._inbox.pending > BACKLOG and self._live.is_current_thread:
            self._inbox.ease(BACKLOG, EASE)
        if self._through is not None and self._through.put_event(event):
            return
        self._inbox.put_event(event)

    def publish_metrics(self, draft: MetricsDraft) -> None:
        """Put checked host numbers on their way; the caller hands the dictionary over."""
        size = draft_size(draft[2])
        if size and self.options.durability == "interval":
            self._inbox.put_heavy(draft, size)
        else:
            self.put_draft(draft)

    def publish_deferred(
        self,
        made: float,
        step: int | None,
        host: dict[str, float],
        keys: frozenset[str],
        device: DeviceValues,
    ) -> None:
        """Put numbers on their way of which some are still on a device."""
        self._inbox.put(DeferredMetrics(made, step, host, keys, device))

    def publish_late(self, made: float, series: str, device: DeviceEvent) -> None:
        """Put an event on its way whose values are still on a device.

        Args:
            made: When it was made, in Unix seconds.
            series: Whose order it keeps among others of the same series; no metric's name.
            device: The event, on its way.
        """
        self._inbox.put(DeferredEvent(made, frozenset((series,)), device))

    def reject(self, key: str, reason: str) -> None:
        """Count a value that cannot be logged; name its key the first time."""
        self._rejected_count += 1
        if key not in self._rejected and len(self._rejected) < 1000:
            self._rejected[key] = reason
            with deferred_interrupt():  # it could leave the log's lock taken
                log.warning("%s is not logged: %s", key, reason)

    def add_subscriber(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        """Start a subscriber; what the decorators call.

        Raises:
            ClosedError: The bus is closed.
        """
        with self._lock:
            self._refuse_closed(subscription.name)
            if self._rank and subscription.ranks == "zero":
                return
            subscription.name = self._unique(subscription.name)
            self._live.add(subscription, body, on_error)

    def add_sink(self, sink: "Sink", context: "SinkContext") -> None:
        """Deliver the run to a destination, from its beginning.

        Raises:
            ClosedError: The bus is closed.
            ValueError: It has no journal to deliver from, or a sink of that name already.
        """
        self._refuse_closed(sink.name)
        self._outlets.add(sink, context)

    def add_decider(self, decider: Decider) -> None:
        """Start asking a decider; what the decorator calls.

        Raises:
            ClosedError: The bus is closed.
        """
        with self._lock:
            self._refuse_closed(decider.name)
            decider.name = self._unique(decider.name)
            self._deciders.add(decider)

    def report_failure(self, subscription: Subscription, error: BaseException) -> None:
        """Count a handler's failure."""
        self._live.report_failure(subscription.name, error, subscription, retired=False)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything published so far is written; tell whether that happened in time."""
        drained = self._writer.drain(time.monotonic() + timeout)
        with deferred_interrupt():  # what is written must not be written again
            return drained and (self._journal is None or self._journal.flush(force=True))

    def statistics(self) -> Statistics:
        """What happened so far; the counts add up whenever nobody publishes meanwhile."""
        journal = self._journal
        dropped = (
            self._inbox.untold + self._writer.lost + (journal.lost if journal else Counter[str]())
        )
        if self._late:
            dropped[LATE] += self._late
        cpu = self._writer.cpu_seconds + self._live.cpu_seconds
        return Statistics(
            published=self._inbox.offered + self._late,
            journalled=journal.written if journal else 0,
            pending=self._inbox.pending
            + (journal.pending if journal else 0)
            + self._writer.device_pending,
            device_pending=self._writer.device_pending,
            dropped=dict(dropped),
            unshown=self._inbox.unshown,
            rejected=dict(self._rejected),
            rejected_count=self._rejected_count,
            subscribers=self._live.accounts,
            deciders={
                d.name: DeciderStatistics(d.answered, d.late, d.failures)
                for d in self._deciders.all
            },
            blockers={b.name: (b.where, b.seconds) for b in list(self._live.blockers.values())},
            publish_samples=self.latency.count,
            publish_p50_us=self.latency.quantile_us(0.5),
            publish_p99_us=self.latency.quantile_us(0.99),
            lag_seconds=self._writer.lag_seconds,
            writer_cpu_seconds=self._writer.cpu_seconds,
            live_cpu_seconds=self._live.cpu_seconds,
            cpu_share=cpu / max(1e-9, time.monotonic() - self._started),
            sinks={each.name: each for each in self._outlets.accounts},
            disk_error=str(journal.error) if journal and journal.error else None,
        )

    def close(self, timeout: float, last: Callable[[], Event] | None = None) -> Account:
        """Flush, let subscribers finish, refuse what is still asked, write the last event, end.

        Never takes longer than `timeout` by more than about a second.

        Args:
            timeout: Seconds for everything together.
            last: Makes the event that ends the journal, when everything else is in it.
        """
        started = time.monotonic()
        deadline = started + timeout
        with self._lock:
            if self._closed:
                return Account(written=True, unwritten=0, unread={}, abandoned=(), seconds=0.0)
            self._closed = True
        reserve = min(1.0, timeout / 5)
        self.control.close("the run ended")
        self._writer.drain(deadline - reserve / 2, device_deadline=deadline - reserve)
        self._settle(min(deadline - reserve / 2, time.monotonic() + timeout / 3))
        self._inbox.closed = True  # whoever has not come to an end by now never will
        if self._writer.drain(deadline - reserve / 4, device_deadline=deadline - reserve / 3):
            self._inbox.settle()
        event = last() if last is not None else None
        self._end(event, deadline)
        self._writer.drain(deadline)
        self._live.end_streams()
        outcome = event.outcome if isinstance(event, RunEnded) else "finished"
        sinks = self._outlets.close(outcome, deadline - reserve)
        abandoned = self._live.finish(min(deadline, time.monotonic() + timeout / 3))
        unread = {s.name: n for s in self._live.subscriptions if (n := s.dropped[UNREAD])}
        ended = self._writer.stop(max(deadline, time.monotonic() + 0.2))
        unwritten = self._inbox.pending + (self._journal.pending if self._journal else 0)
        return Account(
            written=ended and unwritten == 0,
            unwritten=unwritten,
            unread=unread,
            abandoned=tuple(abandoned),
            seconds=time.monotonic() - started,
            sinks=sinks,
        )

    def hurry(self) -> None:
        """Have `close` wait for no destination any more; a signal handler may call it."""
        self._outlets.hurry()

    @property
    def has_listeners(self) -> bool:
        """Whether there is any subscriber or decider."""
        return bool(self._live.subscriptions or self._deciders.all)

    @property
    def is_live_thread(self) -> bool:
        """Whether the caller runs on the loop thread, as subscribers do."""
        return self._live.is_current_thread

    def note_late(self) -> None:
        """Count something that was published after the end."""
        self._late += 1

    def abandon(self) -> None:
        """Take nothing any more and touch nothing: this is a forked child."""
        self._closed = self._abandoned = True
        self._inbox.closed = True
        self._writer.abandon()
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self.control.abandon("this is a forked child of the run's process")

    def _end(self, last: Event | None, deadline: float) -> None:
        self._writer.last = last
        # A publishing thread that writes itself is either done before, or sees that it is over.
        journal = self._journal
        left = max(0.0, deadline - time.monotonic())
        locked = journal is not None and journal.lock.acquire(timeout=left)
        try:
            self._inbox.put_last(last)
        finally:
            if journal is not None and locked:
                journal.lock.release()

    def _settle(self, deadline: float) -> None:
        """Let subscribers read and publish until nothing moves, then end those that may end."""
        moved = True
        while moved and time.monotonic() < deadline:
            before = self._inbox.offered
            self._writer.drain(deadline)
            self._live.catch_up(deadline)
            moved = self._inbox.offered != before
        self._live.end_before(RunEnded, deadline)

    def _tell_health(self, event: Event) -> None:
        if not self._inbox.closed:  # then the account tells it
            self.publish(event)

    def _must_wait(self, event: Event) -> bool:
        # The loop thread runs the deciders, so it must not wait for them; closing has its budget.
        if self._closed or self._live.is_current_thread:
            return False
        return bool(self._deciders.of(type(event)))

    def _publish_and_wait(self, event: Event) -> None:
        self._questions += 1
        leases, number = self._leases, self._questions
        if leases is not None and leases.rank:
            self._inbox.put_event(event)
            for each in leases.hear_verdict(number, self._deciders.patience(type(event))):
                self.control.decided(each)
            return
        question = new_question(event)
        self._inbox.put(question)
        self._inbox.wake.set()
        decided = self._deciders.wait(question)
        if leases is not None:
            leases.tell_verdict(number, [each.model_dump(mode="json") for each in decided])
        for request in decided:
            self.control.decided(request)

    def _refuse_closed(self, name: str) -> None:
        if self._closed:
            raise ClosedError(f"the run has ended; {name!r} would never see an event")

    def _unique(self, name: str) -> str:
        taken = {s.name for s in self._live.subscriptions} | {d.name for d in self._deciders.all}
        candidates = (f"{name}-{number}" for number in range(2, len(taken) + 3))
        return name if name not in taken else next(c for c in candidates if c not in taken)
