"""The part of `Run` that people watch: `console` shows it on the terminal or in the notebook."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, get_args

from bus import Statistics
from runtime._identity import Identity
from runtime._run_plan import RunPlan
from runtime._run_ranks import Ranked
from runtime._shown import ConsoleStyle

if TYPE_CHECKING:
    from runtime._console import Console


class Shown(Ranked):
    """A run that can be watched."""

    _plan: RunPlan
    _known: Identity | None
    _console: "Console | None" = None

    @abstractmethod
    def statistics(self) -> Statistics:
        """What the run's machinery has done so far."""

    def console(
        self,
        style: ConsoleStyle = "auto",
        *,
        total: int | None = None,
        metrics: Sequence[str] | None = None,
        interval: float = 10.0,
        file: IO[str] | None = None,
    ) -> "Console":
        """Show the run to whoever started it, until it is closed.

        Nothing of it runs in training's thread. Rank 0 shows; on other ranks this does nothing.
        While a console shows a run, `ProgressCallback` and `PrinterCallback` show nothing. A second
        console of the same run replaces the first; of another run it writes lines, because one
        terminal has room for one.

        Args:
            style: "panel" stays at the bottom of a terminal, with everybody's output scrolling
                above it; "lines" writes a line now and then; "notebook" is an output of the cell;
                "tqdm" is a bar. "auto" takes what suits best, and lines stand in for what cannot
                be shown.
            total: Steps planned, if no trainer tells.
            metrics: Names to show, the first of them as a curve too; by default a loss, and the
                others in the order of their coming.
            interval: Seconds between two lines.
            file: Where to write; by default standard error, or standard output if that one alone is
                a terminal.

        Raises:
            ValueError: There is no such style, or a number is not positive.
        """
        if style not in get_args(ConsoleStyle):
            known = ", ".join(get_args(ConsoleStyle))
            raise ValueError(f"style={style!r} must be one of {known}")
        if total is not None and total < 1:
            raise ValueError(f"total={total} must be steps, 1 or more, or None")
        if not 0 < interval < math.inf:
            raise ValueError(f"interval={interval} must be seconds between lines, more than 0")
        # A run that nobody watches does not pay for what drawing needs.
        from runtime._console import Console  # noqa: PLC0415
        from runtime._console_choice import choose_renderer  # noqa: PLC0415

        self.end_console()
        shows = not self.rank and not self.closed
        self._console = console = Console(
            # Asking for its name would begin a trainer's run.
            self._plan.name if self._known is None else self._known.info.name,
            self.statistics,
            choose_renderer(style, file, interval) if shows else None,
            total=total,
            metrics=metrics,
        )
        console.follow(self)
        return console

    def end_console(self) -> None:
        """Close the console if there is one; `close` does it too."""
        if self._console is not None:
            self._console.close()
            self._console = None
