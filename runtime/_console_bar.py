"""A tqdm bar that the console's thread moves, for those who like theirs."""

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from runtime._console_progress import Progress
from runtime._console_renderer import Renderer, farewell
from runtime._console_words import named

if TYPE_CHECKING:
    from tqdm import tqdm


class TqdmBar(Renderer):
    """Shows a bar of `tqdm.auto`: a widget in a notebook that has them, characters elsewhere.

    Args:
        file: Where to.
    """

    looks = "tqdm"
    holds_terminal = True

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._bar: tqdm[Any] | None = None

    def say(self, words: str) -> None:
        """Write a line above the bar."""
        if self._bar is None:
            self._file.write(words + "\n")
        else:
            self._bar.write(words, file=self._file)

    def draw(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Move the bar; it appears with the first step."""
        del seconds  # tqdm has a clock of its own
        if progress.step is None:
            return
        if self._bar is None:
            self._bar = self._new_bar(progress.step)
        self._bar.total = progress.total
        self._bar.n = progress.step
        self._bar.set_postfix_str("  ".join(filter(None, [named(progress.metrics), *troubles])))

    def close(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Leave the bar as it stands, and say how it ended."""
        self.draw(progress, troubles, seconds)
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        self.say(farewell(progress, troubles, seconds))

    def _new_bar(self, step: int) -> "tqdm[Any]":
        from tqdm.auto import tqdm  # noqa: PLC0415 - only here, because it may look for widgets

        return tqdm(initial=step, file=self._file, dynamic_ncols=True)
