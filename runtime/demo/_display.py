"""Progress on the terminal: drawn by a subscriber and rich's own thread, never by training.

On a terminal a bar stays at the bottom and whatever anybody logs or prints scrolls above it.
Elsewhere, in a file or a CI log, a plain line appears every few seconds.
"""

from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bus import (
    AlertRaised,
    DecisionApplied,
    Evaluated,
    Event,
    EventStream,
    MessageLogged,
    MetricsLogged,
)
from runtime import Run
from runtime.demo._logs import LogsAbove
from runtime.demo._options import Recipe
from runtime.demo._progress import Progress, ProgressTracker, sparkline

_DRAWINGS_PER_SECOND: Final = 4
_SECONDS_BETWEEN_LINES: Final = 5.0
_SPARKLINE_WIDTH: Final = 24
_SHOWN: Final[tuple[type[Event], ...]] = (
    MetricsLogged,
    Evaluated,
    MessageLogged,
    DecisionApplied,
    AlertRaised,
)


class ProgressDisplay:
    """Shows a run while it trains. Use it as a context manager around the run.

    Args:
        console: Where to draw.
        recipe: What is trained.
        enabled: Whether anything is shown at all.
    """

    def __init__(self, console: Console, recipe: Recipe, *, enabled: bool = True) -> None:
        self.console: Final = console
        self._enabled = enabled
        self._tracker = ProgressTracker(recipe)
        self._last_line = float("-inf")
        self._live: Live | None = None
        self._logs: LogsAbove | None = None

    def __enter__(self) -> Self:
        if self._enabled and self.console.is_terminal:
            self._logs = LogsAbove(self.console)
            self._live = Live(
                get_renderable=self._draw,
                console=self.console,
                refresh_per_second=_DRAWINGS_PER_SECOND,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def follow(self, run: Run) -> None:
        """Subscribes to what there is to show."""
        if self._enabled:
            run.subscribe(*_SHOWN, name="progress", buffer=4096)(self._show)

    def close(self) -> None:
        """Leaves the terminal as it was, the last state still visible; once is enough."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        logs, self._logs = self._logs, None
        if logs is not None:
            logs.restore()

    async def _show(self, events: EventStream[Event]) -> None:
        async for event in events:
            self._tracker.take(event)
            words = _in_words(event)
            if words is not None:
                self.console.print(words, soft_wrap=True)
            elif self._live is None:
                self._print_line(event.time)

    def _print_line(self, time: float) -> None:
        if time - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time
            self.console.print(self._tracker.progress.line(), highlight=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        return draw(self._tracker.progress, ascii_only=self.console.options.ascii_only)


def draw(progress: Progress, *, ascii_only: bool = False) -> RenderableType:
    """Two lines: the bar, and what is known beside it."""
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    bar.add_row(
        ProgressBar(total=progress.steps, completed=progress.step),
        Text(f"step {progress.step:,}/{progress.steps:,}", style="bold"),
    )
    details = Text("  ".join(progress.details), no_wrap=True, overflow="ellipsis")
    if progress.curve and not ascii_only:
        curve = sparkline(progress.curve, width=_SPARKLINE_WIDTH)
        details = Text.assemble((curve, "cyan"), "  ", details, no_wrap=True, overflow="ellipsis")
    return Group(bar, details)


def _in_words(event: Event) -> Text | None:
    """The line that an event deserves above the bar, if it does."""
    match event:
        case MessageLogged():
            where = "" if event.step is None else f"step {event.step:,}: "
            return Text.assemble((where, "dim"), event.text)
        case DecisionApplied():
            what = f"{event.request['type']} by {event.by}"
            return Text.assemble(
                (f"step {event.step:,}: ", "dim"), (what, "yellow"), f": {event.reason}"
            )
        case AlertRaised():
            return Text.assemble((event.title, "bold red"), f" {event.text}")
        case _:
            return None
