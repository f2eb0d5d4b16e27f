"""What a watchdog sees of the training thread: how far it is, where, and whether that is judged.

Safe points are due only inside the loop that passes them. Which loop that is follows from two
things: the functions that a safe point was called from, and those that the thread was seen in
between two safe points. What all have in common, from the outermost on, ends with the function that
the loop is in. When that function has returned, as at the end of a notebook's cell, nothing is
late; nor is it where a loop over epochs evaluates behind a function for each of them, unless that
takes no longer than steps may.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Final

from bus import Control
from runtime._watchdog_lateness import Seen
from runtime._watchdog_stacks import LENIENT, NOWHERE, Look, look

_RENEWED: Final = 100
"""Looks with safe points before and behind, until it is found out anew who passes them."""


class Phases:
    """What the loop is at, in its own words; written by the training thread.

    Attributes:
        name: What it is at.
        lenient: Whether that may take any time.
        changes: How often a phase has begun or ended.
        failed_in: The innermost phase that ended with an exception, once one has.
    """

    def __init__(self, name: str = "training", *, lenient: bool = False) -> None:
        self.name: str = name
        self.lenient: bool = lenient
        self.changes: int = 0
        self.failed_in: str | None = None

    @contextmanager
    def begin(self, name: str, *, lenient: bool = True) -> Generator[None]:
        """Be in a phase for as long as the context lasts."""
        before = self.name, self.lenient
        self.name, self.lenient = name, lenient
        self.changes += 1
        try:
            yield
        except BaseException:
            self.failed_in = self.failed_in or name
            raise
        finally:
            self.name, self.lenient = before
            self.changes += 1


class View:
    """Looks at the thread that passes safe points.

    Args:
        control: What counts them.
        phases: What the loop says of itself.
    """

    def __init__(self, control: Control, phases: Phases) -> None:
        self.here: Look = NOWHERE
        """Where the thread was at the last look."""
        self.lenient: bool = False
        """Whether what it was at may take any time."""
        self.passed: int = 0
        """Safe points passed at the last look."""
        self.thread: int = threading.get_ident()
        """The thread; whoever made this, until a safe point has been passed."""
        self._control = control
        self.phases = phases
        self._loop: Sequence[CodeType] | None = None
        self._next_loop: Sequence[CodeType] | None = None  # takes its place in the end
        self._between: Sequence[CodeType] | None = None  # since the last safe point
        self._since = 0.0  # when that had been passed
        self._learned = 0

    @property
    def step(self) -> int:
        """The step of the last safe point, as far as it is one."""
        step: object = self._control.step
        return step if type(step) is int and step >= 0 else 0

    def look(self, now: float, is_long: Callable[[float], bool]) -> Seen:
        """Look at it.

        Args:
            now: When, in seconds of a monotonic clock.
            is_long: Tells whether so many seconds between safe points are more than steps take.
        """
        changes = self.phases.changes
        self.here = here = look(self.thread)
        passed = self._control.passed  # read behind the look: what comes later has not been seen
        self.lenient = self.phases.lenient or here.activity in LENIENT
        self._follow(now, is_long, passed=passed != self.passed)
        self.passed = passed
        loop = self._loop
        inside = loop is not None and tuple(here.codes[: len(loop)]) == tuple(loop)
        return Seen(now, passed, changes, judged=inside and not self.lenient)

    def _follow(self, now: float, is_long: Callable[[float], bool], *, passed: bool) -> None:
        """Find out which loop it is; what is seen counts once a safe point has come behind it."""
        caller = self._control.caller
        if caller is None:
            return
        if self.thread != caller.thread:
            self.thread = caller.thread
            self._loop = self._next_loop = self._between = None
            return
        if passed:
            if self._between is not None and not is_long(now - self._since):
                self._learn(caller.codes[:-1], self._between)
            self._between, self._since = None, now
        codes = self.here.codes
        # The frames of a thread that runs on may end while they are read.
        if not self.lenient and codes[:1] == caller.codes[:1]:
            self._between = codes if self._between is None else _common(self._between, codes)

    def _learn(self, called_from: Sequence[CodeType], between: Sequence[CodeType]) -> None:
        known = called_from if self._loop is None else self._loop
        self._loop = _common(known, between)
        known = called_from if self._next_loop is None else self._next_loop
        self._next_loop = _common(known, between)
        self._learned += 1
        if self._learned % _RENEWED == 0:
            self._loop, self._next_loop = self._next_loop, None
            self._control.caller = None


def _common(one: Sequence[CodeType], other: Sequence[CodeType]) -> Sequence[CodeType]:
    """What two sequences begin with."""
    count = 0
    for count, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine is not yours:
            return one[:count]
    return one[: min(len(one), len(other))]
