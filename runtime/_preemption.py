"""What a preemption means for one process: how long it has, what fits into that, how it leaves."""

import math
import os
import signal
from collections.abc import Mapping
from typing import Final

from bus import Preempt

GRACE_SECONDS: Final = "HOTLOOP_GRACE_SECONDS"
"""Environment variable: seconds between a signal and the end of the process."""

_FLOOR: Final = 2.0
"""Seconds below which no save is begun whose duration nobody knows."""

_RESERVE: Final = 1.0
"""Seconds kept for what comes behind: the end of the journal, the exit of the interpreter."""


class Preempted(SystemExit):
    """Training has ended because the machine is needed elsewhere; the process should end now.

    Left alone, it ends the process with 128 and the signal's number (143 for SIGTERM), by which
    launchers know that the job is not done.

    Attributes:
        request: What was asked.
    """

    def __init__(self, request: Preempt) -> None:
        number = getattr(signal, request.signal, None)
        super().__init__(1 if number is None else 128 + number)
        self.request = request

    def __str__(self) -> str:
        asked = f"{self.request.by}: {self.request.reason}" if self.request.reason else ""
        return f"preempted by {asked or self.request.by}"


def known_grace(given: float | None, environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between a signal and the end: as given, or as the environment says; None for unknown.

    Raises:
        ValueError: It is not a number above 0.
    """
    text = environment.get(GRACE_SECONDS)
    if given is None and not text:
        return None
    try:
        seconds = float(text or 0) if given is None else given
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        what = f"{GRACE_SECONDS}={text!r}" if given is None else f"grace_seconds={given!r}"
        raise ValueError(f"{what} must be seconds above 0")
    return seconds


def closing_budget(request: Preempt | None, seconds: float) -> float:
    """Seconds that closing may take: what it would have, or less if a deadline leaves less."""
    left = request.seconds_left() if request is not None else None
    return seconds if left is None else min(seconds, max(left - _RESERVE, _RESERVE))


def why_not_save(left: float | None, longest: float | None) -> str | None:
    """Why no checkpoint is begun; None if it may be.

    Args:
        left: Seconds to the deadline; None if there is none.
        longest: Seconds that the longest save so far took; None if there was none.
    """
    if left is None:
        return None
    if longest is None:
        if left >= _FLOOR:
            return None
        return f"{max(left, 0):.1f} s are left, and nobody knows how long a save takes"
    if left >= longest + _RESERVE:
        return None
    return f"{max(left, 0):.1f} s are left, and a save took up to {longest:.1f} s"
