"""`Console` shows a run to whoever started it, from a thread of its own.

```
training thread ─ events ─► loop thread: ProgressTracker.take ─┐
                                                               ├─ a lock, some microseconds
console thread, 4 times a second: ProgressTracker.look ◄───────┘ ─► a renderer ─► the terminal
```

A terminal that does not answer, such as one that was stopped with Ctrl-S, holds up this thread
alone: neither training nor the deliveries, whose loop the events come from.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from bus import (
    AlertRaised,
    DecisionApplied,
    Evaluated,
    Event,
    EventStream,
    MessageLogged,
    MetricsLogged,
    PredictionStepEnded,
    Registrar,
    RunEnded,
    RunStarted,
    StepEnded,
    TrainBegan,
)
from runtime._console_progress import Progress, ProgressTracker
from runtime._console_renderer import Renderer
from runtime._console_words import troubles
from runtime._shown import TERMINAL, Looks, begin_showing, end_showing

if TYPE_CHECKING:
    from bus import Statistics

log = logging.getLogger("runtime")

_PATIENCE: Final = 1.0
"""Seconds that closing waits for a terminal that does not answer."""

_FOLLOWED: Final = (
    RunStarted,
    TrainBegan,
    MetricsLogged,
    Evaluated,
    MessageLogged,
    AlertRaised,
    DecisionApplied,
    RunEnded,
)


class Console:
    """Shows a run until it is closed; what `Run.console` returns.

    Args:
        name: The run's, as far as it is known.
        statistics: What the run's machinery has done so far.
        renderer: What draws; None on a rank that shows nothing.
        total: Steps planned; what the run says of it otherwise.
        metrics: Names to show; None for a loss and whatever else was logged.
    """

    def __init__(
        self,
        name: str,
        statistics: "Callable[[], Statistics]",
        renderer: Renderer | None,
        *,
        total: int | None = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        self._tracker = ProgressTracker(name, total=total, metrics=metrics)
        self._statistics = statistics
        self._renderer = renderer
        self._began = time.monotonic()
        self._process = os.getpid()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hotloop-console", daemon=True)

    @property
    def looks(self) -> Looks | None:
        """What it looks like; None on a rank that shows nothing."""
        return None if self._renderer is None else self._renderer.looks

    def follow(self, run: Registrar) -> None:
        """Subscribe to what there is to show, and begin to show it."""
        if self._renderer is None:
            return
        run.subscribe(*_FOLLOWED, name="console", buffer=4096)(self._take)
        # Of the steps between two drawings the latest is enough.
        run.subscribe(
            StepEnded, PredictionStepEnded, name="console-steps", buffer=1, overflow="latest"
        )(self._take)
        begin_showing(self)
        self._thread.start()

    def close(self) -> None:
        """Show the last state and leave the terminal as it was; once is enough.

        Waits for a terminal that does not answer for a second at most.
        """
        if os.getpid() != self._process:  # a forked child: it may have found the event's lock taken
            return
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    async def _take(self, events: EventStream[Event]) -> None:
        async for event in events:
            if self._ending.is_set():
                return
            self._tracker.take(event)

    def _work(self) -> None:
        renderer = self._renderer
        assert renderer is not None
        try:
            try:
                self._show(renderer)
            finally:
                renderer.close(*self._state())
        except Exception as error:  # noqa: BLE001 - whatever a terminal does, training goes on
            _give_up(error)
        finally:
            end_showing(self)
            if renderer.holds_terminal:
                TERMINAL.release()

    def _show(self, renderer: Renderer) -> None:
        while not self._ending.wait(renderer.period):
            self._say_news(renderer)
            renderer.draw(*self._state())
        self._say_news(renderer)

    def _say_news(self, renderer: Renderer) -> None:
        for words in self._tracker.news():
            renderer.say(words)

    def _state(self) -> tuple[Progress, list[str], float]:
        now = troubles(self._statistics(), time.time())
        return self._tracker.look(), now, time.monotonic() - self._began


def _give_up(error: Exception) -> None:
    """Say why nothing is shown any more; a terminal that went away is nobody's fault."""
    closed = isinstance(error, ValueError) and "closed file" in str(error)
    if closed or isinstance(error, OSError):
        log.debug("the console has nothing to write to: %s", error)
    else:
        log.error("the console failed; the run goes on without it", exc_info=error)
