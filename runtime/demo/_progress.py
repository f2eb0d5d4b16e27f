"""What a progress display knows: computed from events alone, so it needs neither clock nor run."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from bus import Evaluated, Event, MetricsLogged
from runtime.demo._options import Recipe

_BARS: Final = "▁▂▃▄▅▆▇█"
_WINDOW: Final = 10.0
"""Seconds over which the speed is averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, at one moment.

    Attributes:
        step: Steps taken.
        steps: Steps planned.
        loss: The training loss of the last step; None before the first.
        curve: The training loss from the first step on, averaged into some dozens of values.
        tokens_per_second: Recent speed; None until it can be told.
        seconds_left: Until the last step at that speed; None until it can be told.
        evaluated: Step and loss of the last evaluation; None before the first.
    """

    step: int
    steps: int
    loss: float | None = None
    curve: tuple[float, ...] = ()
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    evaluated: tuple[int, float] | None = None

    @property
    def details(self) -> list[str]:
        """The parts of a status line, each for people."""
        parts: list[str] = []
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.evaluated is not None:
            parts.append(f"validation {self.evaluated[1]:.3f} at step {self.evaluated[0]:,}")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.0f} tok/s")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return parts

    def line(self) -> str:
        """All of it in one line of plain text."""
        return "  ".join([f"step {self.step:,}/{self.steps:,}", *self.details])


class ProgressTracker:
    """Turns a stream of events into the current `Progress`.

    Written by one thread and read by others: `progress` is replaced, never changed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.progress = Progress(step=0, steps=recipe.steps)
        self._tokens_per_step = recipe.bytes_per_step
        self._loss: float | None = None
        self._curve = Curve()
        self._recent: deque[tuple[float, int]] = deque()
        self._evaluated: tuple[int, float] | None = None

    def take(self, event: Event) -> None:
        """Takes one event into account; those that say nothing about progress are ignored."""
        if isinstance(event, Evaluated) and event.step is not None:
            self._evaluated = (event.step, event.metrics["eval_loss"])
        elif (
            isinstance(event, MetricsLogged) and event.step is not None and "loss" in event.metrics
        ):
            self._loss = event.metrics["loss"]
            self._curve.add(self._loss)
            self._recent.append((event.time, event.step))
            while event.time - self._recent[0][0] > _WINDOW:
                self._recent.popleft()
        else:
            return
        self.progress = self._current()

    def _current(self) -> Progress:
        steps = self.progress.steps
        step = self._recent[-1][1] if self._recent else 0
        rate = self._steps_per_second()
        return Progress(
            step=step,
            steps=steps,
            loss=self._loss,
            curve=self._curve.values(),
            tokens_per_second=None if rate is None else rate * self._tokens_per_step,
            seconds_left=None if rate is None else (steps - step) / rate,
            evaluated=self._evaluated,
        )

    def _steps_per_second(self) -> float | None:
        if len(self._recent) < 2:
            return None
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        if ended <= began or last <= first:
            return None
        return (last - first) / (ended - began)


class Curve:
    """A series of any length in at most `size` values: when it is full, neighbours are merged."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._share: int = 1
        self._means: list[float] = []
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        """Appends a value."""
        self._sum += value
        self._count += 1
        if self._count == self._share:
            self._means.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
        if len(self._means) == self._size:
            self._means = _merged(self._means, self._size // 2)
            self._share *= 2

    def values(self) -> tuple[float, ...]:
        """Means of equal shares of the series, but for the last one, which may still be growing."""
        rest = (self._sum / self._count,) if self._count else ()
        return (*self._means, *rest)


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Draws values as a row of bars, each the mean of its share of them.

    Returns:
        At most `width` characters; a share that is not finite is drawn as `!`.
    """
    means = _merged(values, min(width, len(values)))
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BARS[round((mean - low) * scale)] if math.isfinite(mean) else "!" for mean in means
    )


def _merged(values: Sequence[float], count: int) -> list[float]:
    """The means of `count` shares of the values, as equal as they can be."""
    limits = [len(values) * index // count for index in range(count + 1)] if count else []
    return [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(limits)]


def duration(seconds: float) -> str:
    """Seconds as `m:ss`, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
