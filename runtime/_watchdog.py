"""The watchdog: a thread beside training that reports when a run stands still, and why.

It looks at the training thread some times a second and costs it nothing else. With several ranks it
reads once in a while, over the store of the leases, whether somebody asks what everybody is doing.
It reports and never acts; what it decides is decided next door, without threads and clocks.

Where C code holds the interpreter's lock, no thread of Python's can look or write: other ranks then
name this one, and alone it says so afterwards. `faulthandler` could dump stacks meanwhile, but has
one timer for the whole process, which may be the user's, and a thread that forks do not survive.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from random import Random
from typing import Final

from bus import Event, RanksError
from runtime._metrics import error_text
from runtime._watchdog_answers import Answer, Finding, find
from runtime._watchdog_fleet import BEATS, Fleet
from runtime._watchdog_lateness import Judge, Lateness
from runtime._watchdog_questions import WatchStore
from runtime._watchdog_reports import Publisher, Reports
from runtime._watchdog_stacks import STACKS_OF_RANK, stacks
from runtime._watchdog_view import View
from runtime._watchdog_workers import Workers, look_after, named_in

log = logging.getLogger("runtime")

_LOOKS: Final = 20
"""Looks within the time that is no stall."""

_PATIENCE: Final = 1.0
"""Seconds that closing waits for the thread, which may be waiting for the store."""

_DYING: Final = 0.5
"""Seconds within which a process whose files are closed has ended, on a busy machine."""

_UNSEEN: Final = (
    "nothing could be seen while it lasted: C code held the interpreter's lock, or the process was "
    "stopped"
)


class Watchdog:
    """Watches the training thread of one rank.

    Args:
        publisher: Where to report.
        view: What it sees.
        floor: Seconds of silence that are no stall, however fast the steps are.
        store: What all ranks share, if there are several.
        rank: This rank.
        size: How many ranks there are.
    """

    def __init__(
        self,
        publisher: Publisher,
        view: View,
        *,
        floor: float,
        store: WatchStore | None = None,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self._publish_now: Callable[[Event], None] = publisher.publish
        self._view = view
        self._judge = Judge(floor)
        self._reports = Reports(self)
        self._rank = rank
        self._interval = floor / _LOOKS
        self._beat = floor / BEATS
        self._next_beat = 0.0
        self._lateness = Lateness(0.0, floor)
        self._workers = Workers()
        self._told_dead: set[str] = set()
        self._fleet = (
            None
            if store is None
            else Fleet(store, rank, size, floor=floor, reports=self._reports, answer=self._answer)
        )
        self._passed = 0  # safe points before the stall that is reported
        self._failed = False
        self._ending = threading.Event()
        self._abandoned = False
        self._random = Random()  # noqa: S311 - no secret; the global one belongs to training
        self._thread = threading.Thread(target=self._work, name="hotloop-watchdog", daemon=True)

    def start(self) -> None:
        """Start its thread."""
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Publish an event, unless the run has ended meanwhile."""
        if not self._abandoned:
            self._publish_now(event)

    def close(self, error: BaseException | None = None) -> None:
        """End, with a last word on a stall that is over; waits a second at most.

        Args:
            error: What the training fails with. If that is a worker that died, it is reported.
        """
        self._ending.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)
        if error is not None and not isinstance(error, RanksError):
            self._report_failure(error)
        self._abandoned = True

    def _report_failure(self, error: BaseException) -> None:
        """Report a worker that died, if that is what training fails with."""
        if self._abandoned or self._told_dead:
            return
        which = named_in(error_text(error))
        if which is None and isinstance(error, ConnectionError | EOFError):
            which = _dying()  # its end may come as its pipe's
        if which is None:
            return
        failed = {"stacks": "".join(traceback.format_exception(error))[-STACKS_OF_RANK:]}
        answer = self._answer().model_copy(update=failed)
        self._reports.worker(which, self._view.phases.failed_in or answer.phase, answer)

    def _work(self) -> None:
        over = False
        while not over:
            # Not always as long, so that looks do not fall in step with the loop.
            over = self._ending.wait(self._interval * self._random.uniform(0.7, 1.3))
            try:
                self._turn(time.monotonic(), over=over)
            except OSError as error:  # safe points say so if the store stays away
                log.debug("the watchdog cannot ask the other ranks: %s", error)
            except Exception:
                if not self._failed:
                    log.exception("the watchdog failed; it goes on, and further failures are quiet")
                self._failed = True

    def _turn(self, now: float, *, over: bool) -> None:
        before, last = self._view.passed, self._lateness
        seen = self._view.look(now, self._judge.is_long)
        self._lateness = lateness = self._judge.look(seen)
        if not self._reports.open:
            self._passed = seen.passed
        if over:
            if self._reports.open and seen.passed > self._passed:
                self._go_on(lateness.ended or last.silent)
            return
        if now >= self._next_beat:
            self._next_beat = now + self._beat
            self._look_after_workers()
        if self._fleet is None:
            self._alone(lateness, last)
        else:
            self._fleet.turn(now, lateness)
            self._fleet.add(now, self._view.here, seen.passed - before, judged=seen.judged)

    def _alone(self, lateness: Lateness, last: Lateness) -> None:
        """Report what is due in a run of one process."""
        if not self._reports.open and (lateness.reports or lateness.ended):
            mine = self._answer()
            finding = find([mine], self._rank, {})
            if lateness.ended:
                finding = Finding("silent", (self._rank,), f"rank {self._rank}: {_UNSEEN}")
            if finding is not None:
                seconds = lateness.ended or lateness.silent
                self._reports.stall(finding, [mine], seconds=seconds, step=mine.step)
        if self._reports.open and lateness.silent < max(last.silent, lateness.ended):
            self._go_on(lateness.ended or last.silent)

    def _go_on(self, seconds: float) -> None:
        self._reports.over(seconds=seconds, step=self._view.step)

    def _look_after_workers(self) -> None:
        self._workers = look_after()
        for each in self._workers.dead:
            if each not in self._told_dead:
                self._told_dead.add(each)
                self._reports.worker(each, self._view.phases.name, self._answer())

    def _answer(self, lateness: Lateness | None = None) -> Answer:
        """What this rank is doing."""
        view, lateness = self._view, lateness or self._lateness
        return Answer(
            question=0,
            rank=self._rank,
            passed=view.passed,
            step=view.step,
            phase=view.phases.name,
            lenient=view.lenient,
            silent=lateness.silent,
            limit=lateness.limit,
            activity=view.here.activity,
            place=view.here.place,
            stacks=stacks(view.thread),
            dead=self._workers.dead,
            stopped=self._workers.stopped,
        )


def _dying() -> str | None:
    """The worker that has died just now; its files are closed before that can be seen."""
    deadline = time.monotonic() + _DYING
    found = look_after()
    while found.count and not found.dead and time.monotonic() < deadline:
        time.sleep(0.01)
        found = look_after()
    return next(iter(found.dead), None)
