"""How far a run is, for people: `ProgressTracker` makes a `Progress` of the run's events alone.

Events come on the loop thread, `look` is called by the thread that draws; a lock is between them,
and neither holds it for longer than it takes to copy some dozens of numbers.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bus import (
    AlertRaised,
    DecisionApplied,
    Evaluated,
    Event,
    MessageLogged,
    MetricsLogged,
    PredictionStepEnded,
    RunEnded,
    RunStarted,
    TrainBegan,
)
from runtime._console_curve import Curve
from runtime._console_words import in_words

_WINDOW: Final = 30.0
"""Seconds over which the speed is averaged."""

_APART: Final = 0.25
"""Seconds between two marks of the speed; between them the latest one is moved on."""

_KEPT: Final = 256
"""Names of metrics that are remembered; nobody could read more."""

_NEWS: Final = 1000
"""Lines that may wait for a terminal; the journal has them all."""

_LOSSES: Final = ("loss", "train/loss", "train_loss")
_UNSHOWN: Final = frozenset(("total_flos",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, at one moment.

    Attributes:
        name: The run's.
        attempt: Which turn at the run this is.
        step: Steps taken; None before the first is known.
        total: Steps planned, if known.
        rate: Recent steps a second; None until it can be told.
        metrics: The latest values of what is shown, by name.
        curve: The first of them from the beginning on, averaged into some dozens of values.
        evaluated: The last evaluation's step and results.
        evaluating: Whether an evaluation is under way.
        batch: Its batches so far, where it counts them.
        alert: The last alert, in words.
        ended: How the run ended; None while it goes on.
    """

    name: str = ""
    attempt: int = 1
    step: int | None = None
    total: int | None = None
    rate: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    curve: tuple[float, ...] = ()
    evaluated: tuple[int | None, tuple[tuple[str, float], ...]] | None = None
    evaluating: bool = False
    batch: int | None = None
    alert: str = ""
    ended: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step at that speed; None if it cannot be told, or the run has ended."""
        if self.ended is not None or not self.rate or self.total is None or self.step is None:
            return None
        return max(0.0, (self.total - self.step) / self.rate)

    @property
    def share(self) -> float | None:
        """Steps taken of those planned, from 0 to 1; None if it cannot be told."""
        if not self.total or self.step is None:
            return None
        return min(1.0, self.step / self.total)


class ProgressTracker:
    """Turns events into the present `Progress`, and into lines of news.

    Args:
        name: The run's, as far as it is known.
        total: Steps planned; what the run says of it otherwise.
        metrics: Names to show; by default a loss, and the others in the order of their coming.
    """

    def __init__(
        self, name: str, *, total: int | None = None, metrics: Sequence[str] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._name = name
        self._attempt = 1
        self._given = total
        self._total = total
        self._wanted = None if metrics is None else tuple(metrics)
        self._metrics: dict[str, float] = {}
        self._curve = Curve()
        self._drawn: str | None = self._wanted[0] if self._wanted else None
        self._marks: deque[tuple[float, int]] = deque()
        self._evaluated: tuple[int | None, tuple[tuple[str, float], ...]] | None = None
        self._evaluating = False
        self._batch: int | None = None
        self._alert = ""
        self._ended: str | None = None
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._evaluated_at = 0.0

    def take(self, event: Event) -> None:
        """Take one event into account; those that say nothing about progress are ignored."""
        with self._lock:
            self._take(event)
            words = in_words(event)
            if words is not None:
                self._news.append(words)

    def look(self) -> Progress:
        """How far the run is."""
        with self._lock:
            return Progress(
                name=self._name,
                attempt=self._attempt,
                step=self._marks[-1][1] if self._marks else None,
                total=self._total,
                rate=self._rate(),
                metrics=tuple((name, self._metrics[name]) for name in self._shown()),
                curve=self._curve.values(),
                evaluated=self._evaluated,
                evaluating=self._evaluating,
                batch=self._batch,
                alert=self._alert,
                ended=self._ended,
            )

    def news(self) -> list[str]:
        """What has happened since the last call that deserves a line of its own, in order."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
            return news

    def _take(self, event: Event) -> None:
        match event:
            case PredictionStepEnded():
                # It may come by another subscription than the end of its evaluation, and later.
                if event.time > self._evaluated_at:
                    self._evaluating, self._batch = True, event.batch
            case RunEnded():
                self._ended = event.outcome
            case AlertRaised():
                self._alert = in_words(event) or ""
            case MessageLogged() | DecisionApplied():
                pass  # told as news; its step may be any
            case _:
                self._evaluating, self._batch = False, None
                self._advance(event)

    def _advance(self, event: Event) -> None:
        match event:
            case MetricsLogged():
                self._take_metrics(event.metrics)
            case Evaluated():
                self._evaluated_at = event.time
                self._evaluated = (event.step, tuple(event.metrics.items()))
            case RunStarted():
                self._name, self._attempt = event.name, event.attempt
            case TrainBegan():
                self._marks.clear()
                self._total = self._given or event.max_steps
            case _:
                pass
        if event.step is not None:
            self._mark(event.time, event.step)

    def _take_metrics(self, metrics: dict[str, float]) -> None:
        if len(self._metrics) < _KEPT or metrics.keys() <= self._metrics.keys():
            self._metrics.update(metrics)
        if self._drawn is None:
            self._drawn = _loss_of(metrics)
        if self._drawn in metrics:
            self._curve.add(metrics[self._drawn])

    def _mark(self, time: float, step: int) -> None:
        marks = self._marks
        if marks and step < marks[-1][1]:
            if time - marks[-1][0] < _WINDOW:
                return  # told late, such as by a value that had to leave its device first
            marks.clear()  # a loop of one's own counts anew
        if len(marks) > 1 and time - marks[-2][0] < _APART:
            marks[-1] = (time, step)
        else:
            marks.append((time, step))
        while len(marks) > 2 and time - marks[1][0] >= _WINDOW:
            marks.popleft()

    def _rate(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        if ended <= began or last <= first:
            return None
        return (last - first) / (ended - began)

    def _shown(self) -> list[str]:
        if self._wanted is not None:
            return [name for name in self._wanted if name in self._metrics]
        first = [self._drawn] if self._drawn is not None else []
        evaluated = () if self._evaluated is None else dict(self._evaluated[1])
        return first + [
            name
            for name in self._metrics
            if name != self._drawn and name not in evaluated and name not in _UNSHOWN
        ]


def _loss_of(metrics: dict[str, float]) -> str | None:
    """The metric that a curve is drawn of, if it is among these."""
    others = [name for name in metrics if name.endswith("loss") and not name.startswith("eval")]
    return next((name for name in (*_LOSSES, *others) if name in metrics), None)
