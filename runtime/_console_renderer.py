"""What draws a console: one of these, called by the console's thread alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import IO, ClassVar

from runtime._console_progress import Progress
from runtime._console_rows import line
from runtime._console_words import duration
from runtime._shown import Looks


class Renderer(ABC):
    """Shows a run somewhere.

    Attributes:
        looks: What it looks like.
        holds_terminal: Whether it has acquired `TERMINAL`, for itself alone.
        period: Seconds between two drawings.
    """

    looks: ClassVar[Looks]
    holds_terminal: ClassVar[bool] = False
    period: float = 0.25

    @abstractmethod
    def say(self, words: str) -> None:
        """Show a line that stays."""

    @abstractmethod
    def draw(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Show how far the run is.

        Args:
            progress: How far it is.
            troubles: What is late, refused or lost.
            seconds: How long it has been going on.
        """

    @abstractmethod
    def close(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Show the last state, which stays, and leave everything as it was."""


class PlainLines(Renderer):
    """Writes a line now and then, where nothing can be drawn.

    Args:
        file: Where to.
        interval: Seconds between two lines about progress.
    """

    looks = "lines"

    def __init__(self, file: IO[str], interval: float) -> None:
        self.period = min(1.0, interval)
        self._file = file
        self._interval = interval
        self._next_at = 0.0
        self._shown: Progress | None = None

    def say(self, words: str) -> None:
        """Write it at once."""
        # In one call, so that another thread's line does not come between the two.
        self._file.write(words + "\n")
        self._file.flush()

    def draw(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Write a line if one is due and there is something new to say."""
        known = progress.step is not None and (progress.metrics or progress.rate is not None)
        if known and seconds >= self._next_at and progress != self._shown:
            self._shown = progress
            self._next_at = seconds + self._interval
            self.say(line(progress, troubles))

    def close(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Write how it ended."""
        self.say(farewell(progress, troubles, seconds))


def farewell(progress: Progress, troubles: Sequence[str], seconds: float) -> str:
    """The last line about a run."""
    ended = progress.ended or "not shown any longer"
    return f"{progress.name}: {ended} after {duration(seconds)}  {line(progress, troubles)}"
