"""What a watchdog sees of the training thread: how far it is, where, and whether that is judged.

Safe points are due only inside the loop that passes them. Which loop that is follows from two
things: the functions that a safe point was called from, and those that the thread was seen in
between safe points. What all have in common, from the outermost on, ends with the function that the
loop is in. When that function has returned, as at the end of a notebook's cell, nothing is late.
"""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Final

from bus import Control
from runtime._watchdog_lateness import Seen
from runtime._watchdog_stacks import LENIENT, NOWHERE, Look, look

_RENEWED: Final = 100
"""Looks between which safe points were passed, until it is found out anew who passes them."""


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
        self._looks = 0

    @property
    def step(self) -> int:
        """The step of the last safe point, as far as it is one."""
        step: object = self._control.step
        return step if type(step) is int and step >= 0 else 0

    def look(self, now: float) -> Seen:
        """Look at it; `now` in seconds of a monotonic clock."""
        passed, changes = self._control.passed, self.phases.changes
        self.here = here = look(self.thread)
        if passed != self.passed:
            self._follow(here.codes)
        self.passed = passed
        self.lenient = self.phases.lenient or here.activity in LENIENT
        loop = self._loop
        over = loop is not None and tuple(here.codes[: len(loop)]) != tuple(loop)
        return Seen(now, passed, changes, judged=not self.lenient and not over)

    def _follow(self, codes: Sequence[CodeType]) -> None:
        """Learn which loop it is, from a look with safe points before it."""
        caller = self._control.caller
        if caller is None:
            return
        if self.thread != caller.thread:
            self.thread, self._loop = caller.thread, None
            return
        self._looks += 1
        if self._looks % _RENEWED == 0:
            self._loop = self._control.caller = None
            return
        known = caller.codes[:-1] if self._loop is None else self._loop
        self._loop = _common(known, codes)


def _common(one: Sequence[CodeType], other: Sequence[CodeType]) -> Sequence[CodeType]:
    """What two sequences begin with."""
    count = 0
    for count, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine is not yours:
            return one[:count]
    return one[: min(len(one), len(other))]
