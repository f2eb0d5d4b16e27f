"""The part of `Run` that is watched: phases that may take any time, and the watchdog itself."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from bus import Bus, Control
from runtime._device import Snapshots
from runtime._run_console import Shown
from runtime._watchdog import Watchdog
from runtime._watchdog_view import Phases, View

FLOOR: Final = 10.0
"""Seconds without a safe point that are no stall, by default."""


class Watched(Shown):
    """A run that says when it stands still."""

    def __init__(
        self,
        bus: Bus,
        *,
        snapshots: Mapping[str, Snapshots] | None,
        strict: bool,
        watchdog: float,
    ) -> None:
        check_floor("watchdog", watchdog)
        super().__init__(bus, snapshots=snapshots, strict=strict)
        self.phases: Phases = Phases()
        """What the training thread is at."""
        self._floor = watchdog
        self._watchdog: Watchdog | None = None

    @property
    def control(self) -> Control:
        """The channel for requests, from any thread."""
        return self._bus.control

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Say what the training thread is at, where that may take any time.

        Inside the context no safe point is missed by the watchdog, on this rank nor on others that
        wait for it. Not needed for what it recognises: compiling, saving and loading with torch or
        safetensors, and what comes behind the loop's function.

        Args:
            name: What it is, such as "evaluation", for reports.
        """
        return self.phases.begin(name)

    def start_watching(self) -> None:
        """Start the watchdog, if it is wanted."""
        if not self._floor or self._watchdog is not None:
            return
        ranks, view = self._ranks, View(self.control, self.phases)
        if ranks is None:
            self._watchdog = Watchdog(self, view, floor=self._floor)
        else:
            self._watchdog = Watchdog(
                self,
                view,
                floor=self._floor,
                store=ranks.store,
                rank=ranks.world.rank,
                size=ranks.world.size,
            )
        self._watchdog.start()

    def end_watching(self, error: BaseException | None = None) -> None:
        """End the watchdog; once is enough.

        Args:
            error: What the training fails with, which may be of a worker that died.
        """
        if self._watchdog is not None:
            self._watchdog.close(error)
            self._watchdog = None


def check_floor(name: str, seconds: float) -> None:
    """Refuse what is no time.

    Raises:
        ValueError: It is negative or not finite, or so short that any step would be a stall.
    """
    if seconds != 0 and not 0.1 <= seconds < math.inf:
        raise ValueError(
            f"{name}={seconds} must be seconds without a safe point that are no stall, 0.1 or "
            "more, or 0 for no watchdog"
        )
