"""The part of `Run` that hears of signals: each becomes a request, and nothing happens in it."""

import contextlib
import logging
import os
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Generator
from typing import Final

from bus import Bus, Handle, Preempt, Stop
from runtime._preemption import known_grace
from runtime._run_guards import Guarded
from runtime._signals import PROCESS, take_default_action

log = logging.getLogger("runtime")

_PATIENCE: Final = 5.0
"""Seconds that a loop may take to its next safe point before a second signal ends the process.

Launchers send the same signal twice within one: to each process, and through the agent above it.
"""

_LAST_WORDS: Final = 2.0
"""Seconds before the deadline at which it is said that no safe point was reached."""


class Signalled(Guarded):
    """A run that can be stopped and preempted by signals."""

    _signals: "_Asking | None" = None

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it has ended, for this process at least."""

    def catch_signals(self, *, grace_seconds: float | None = None) -> None:
        """Have signals ask for a stop at the next safe point, until the run is closed.

        SIGINT (Ctrl-C) asks for a `Stop`; the second one raises `KeyboardInterrupt`. SIGTERM and
        SIGUSR1 ask for a `Preempt`; the second of a kind ends the process as if nobody caught it,
        if the loop has reached no safe point in the five seconds or more since the first, or the
        deadline is over. Handlers that were there before are called as well. A signal that is
        ignored stays so. It is a method, as `monitor` and `watch` are: only whoever calls
        `safe_point` can promise that signals are answered.

        Only the main thread may call it; elsewhere it does nothing but say so.

        Args:
            grace_seconds: Seconds from a signal until the process is killed, as the scheduler
                says; HOTLOOP_GRACE_SECONDS by default, and unknown without it.

        Raises:
            ValueError: The seconds are not above 0.
        """
        grace = known_grace(grace_seconds)
        if self._signals is not None:
            return
        asking = _Asking(self, self._bus, grace)
        if PROCESS.listen(asking):
            self._signals = asking
        else:
            log.warning(
                "signals end this process as if there were no run: %s is not the main thread, "
                "which alone may catch them",
                threading.current_thread().name,
            )

    @property
    def catches_signals(self) -> bool:
        """Whether signals become requests of this run."""
        return self._signals is not None

    def release_signals(self) -> None:
        """Ask nothing any more; without another run that catches them, handlers are as before."""
        asking, self._signals = self._signals, None
        if asking is not None:
            asking.end()
            PROCESS.forget(asking)

    @contextlib.contextmanager
    def last_signals(self) -> Generator[None]:
        """While the run closes: there is nothing left to ask, so Ctrl-C interrupts as ever."""
        if self._signals is not None:
            PROCESS.insist()
        try:
            yield
        finally:
            self.release_signals()


class _Asking:
    """Asks a run's control what a signal means; called on the thread that hears of signals."""

    def __init__(self, run: Signalled, bus: Bus, grace: float | None) -> None:
        self._run = run
        self._bus = bus
        self._grace = grace
        self._asked: dict[int, tuple[Handle, float]] = {}
        self._clock: threading.Timer | None = None

    def __call__(self, number: signal.Signals, count: int) -> None:
        if number == signal.SIGINT:
            if count == 1:
                self._stop()
        elif number not in self._asked:
            self._preempt(number)
        elif self._insists(number):
            self._give_up(number)

    def end(self) -> None:
        """It is over: no deadline is watched any more."""
        if self._clock is not None:
            self._clock.cancel()

    def _stop(self) -> None:
        if self._run.closed:
            return  # closing is hurried by whoever interrupts it
        self._bus.control.request(Stop(by="SIGINT", reason="Ctrl-C"))
        words = "\nstopping after this step; Ctrl-C once more interrupts it\n"
        with contextlib.suppress(OSError):  # nobody may read it
            os.write(2, words.encode())

    def _preempt(self, number: signal.Signals) -> None:
        grace = self._grace
        deadline = None if grace is None else time.time() + grace
        known = "no deadline is known" if grace is None else f"{grace:g} s to the deadline"
        request = Preempt(by=number.name, reason=known, deadline=deadline, signal=number.name)
        if self._run.closed:
            # torchrun sends one to all ranks as soon as the first of those that leave is gone.
            if self._bus.control.preemption is None:
                self._bus.hurry()
            return
        handle = self._bus.control.request(request)
        self._asked[number] = (handle, time.monotonic())
        self._say(f"{number.name}: ends at the next safe point; {known}", alert=False)
        if grace is not None and self._clock is None:
            last_words = max(grace - _LAST_WORDS, grace / 2)
            self._clock = threading.Timer(last_words, self._tell_late, (handle,))
            self._clock.daemon = True
            self._clock.start()

    def _insists(self, number: signal.Signals) -> bool:
        handle, asked = self._asked[number]
        waited = time.monotonic() - asked
        if self._grace is not None and waited > self._grace:
            return True
        return not handle.done and waited > _PATIENCE

    def _give_up(self, number: signal.Signals) -> None:
        self._say(f"{number.name} again, and no safe point since: the process ends at once")
        self._bus.flush(1.0)
        take_default_action(number)

    def _tell_late(self, handle: Handle) -> None:
        if not handle.done:
            self._say(
                f"{handle.request.by}: the deadline is near and the loop has reached no safe "
                "point; what it has done since the last checkpoint is lost unless it gets there"
            )

    def _say(self, text: str, *, alert: bool = True) -> None:
        log.warning("%s", text)
        if self._run.closed:
            return
        if alert:
            self._run.alert("preemption", text)
        else:
            self._run.message(text, level="warning")
