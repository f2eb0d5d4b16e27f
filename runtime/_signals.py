"""Hears of signals on a thread of its own, also while the main thread sits in a C call.

    signal ─► C handler ─► wakeup descriptor ─► thread: tells the listeners
                     └───► Python handler, when the main thread gets to it: whoever was there before

Python's own handlers wait for the main thread; what `signal.set_wakeup_fd` is given does not. Only
the main thread may install or restore. A forked child has its handlers back before a signal can
reach it: signals are held up while a process forks. What is executed anew has none of this.
"""

import contextlib
import ctypes
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeAlias

from bus import interrupts_like

log = logging.getLogger("runtime")

Listener: TypeAlias = Callable[[signal.Signals, int], None]
"""Told which signal came, and the how manieth of its kind that was."""

_Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"

CAUGHT: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)
)
"""What is caught, unless it is ignored or belongs to code that is not Python's."""


class _Catching:
    """One time of catching signals, from installing to restoring; made by the main thread.

    Attributes:
        listeners: Whom to tell.
        insists: Whether the next SIGINT raises `KeyboardInterrupt`, as the second always does.
    """

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.insists = False
        self._counts: Counter[int] = Counter()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._listen, name="hotloop-signals", daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handler = self._handle  # one object, by which it is known again
        self._before: dict[int, _Handler] = {}
        for number in CAUGHT:
            before = signal.getsignal(number)
            if before in (None, signal.SIG_IGN):
                continue
            self._before[number] = before
            signal.signal(number, self._handler)
            if number != signal.SIGINT:  # a C library's call goes on, as nothing is interrupted
                signal.siginterrupt(number, False)
        interrupts_like(self._handler)

    def restore(self) -> None:
        """Put back what was there before, where nobody else has changed it since."""
        self._restore()
        with contextlib.suppress(OSError):
            os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def forked(self) -> None:
        """Put it back in a forked child, which has no thread of ours.

        SLURM's warning goes to all processes of a job, and must not end those that load its data:
        where nobody had a handler for SIGUSR1, a child ignores it.
        """
        self._restore()
        warning = getattr(signal, "SIGUSR1", None)
        if warning is not None and self._before.get(warning) is signal.SIG_DFL:
            signal.signal(warning, signal.SIG_IGN)
        os.close(self._read)
        os.close(self._write)

    def _restore(self) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) is self._handler:
                signal.signal(number, before)
        current = signal.set_wakeup_fd(-1)
        wanted = self._wakeup_before if current == self._write else current
        if wanted != -1:
            with contextlib.suppress(ValueError, OSError):  # it was closed since
                signal.set_wakeup_fd(wanted, warn_on_full_buffer=False)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """What Python calls on the main thread, as soon as that has left its C call."""
        if not self.listeners:  # the last one went on another thread, which could restore nothing
            PROCESS.restore()
            signal.raise_signal(number)
            return
        before = self._before[number]
        if before is signal.default_int_handler and not self._raises():
            return
        if callable(before):
            before(number, frame)

    def _raises(self) -> bool:
        first = not self.insists and self._counts[signal.SIGINT] < 2
        self.insists = True
        return not first

    def _listen(self) -> None:
        while True:
            for number in os.read(self._read, 4096):
                if number == 0:
                    return
                self._tell(number)

    def _tell(self, number: int) -> None:
        if self._wakeup_before != -1:
            with contextlib.suppress(OSError):
                os.write(self._wakeup_before, bytes([number]))
        if number not in self._before:
            return
        self._counts[number] += 1
        for listener in list(self.listeners):
            try:
                listener(signal.Signals(number), self._counts[number])
            except Exception:
                log.exception("a signal could not be handled")


class _Process:
    """What this process catches now; one for all runs in it."""

    def __init__(self) -> None:
        self._catching: _Catching | None = None
        self._forking = threading.local()

    def listen(self, listener: Listener) -> bool:
        """Tell somebody of signals from now on; False outside the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            return False
        if self._catching is not None and not self._catching.listeners:
            self.restore()
        if self._catching is None:
            self._catching = _Catching()
        self._catching.listeners.append(listener)
        return True

    def insist(self) -> None:
        """Have the next SIGINT raise `KeyboardInterrupt`: there is nothing left to ask."""
        if self._catching is not None:
            self._catching.insists = True

    def forget(self, listener: Listener) -> None:
        """Tell it no more; the last one to go leaves everything as the first has found it.

        Where another thread than the main one calls, that comes with the next signal.
        """
        catching = self._catching
        if catching is None or listener not in catching.listeners:
            return
        catching.listeners.remove(listener)
        if not catching.listeners and threading.current_thread() is threading.main_thread():
            self.restore()

    def restore(self) -> None:
        """Catch nothing any more; by the main thread."""
        catching, self._catching = self._catching, None
        if catching is not None:
            catching.restore()

    def before_fork(self) -> None:
        """Hold signals up on the thread that forks."""
        if self._catching is not None:
            self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)

    def after_fork_in_parent(self) -> None:
        """Let them through again."""
        mask = self._forking.__dict__.pop("mask", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def after_fork_in_child(self) -> None:
        """Let them through to the handlers that were there before us."""
        catching, self._catching = self._catching, None
        if catching is not None:
            catching.forked()
        self.after_fork_in_parent()


PROCESS: Final = _Process()
os.register_at_fork(
    before=PROCESS.before_fork,
    after_in_parent=PROCESS.after_fork_in_parent,
    after_in_child=PROCESS.after_fork_in_child,
)


def take_default_action(number: int) -> None:
    """Do what the system does about a signal that nobody catches, from any thread.

    Python lets only the main thread change handlers, which may never get to it.
    """
    ctypes.CDLL(None).signal(number, None)
    os.kill(os.getpid(), number)
