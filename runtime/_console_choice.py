"""Which renderer suits the place where a run is shown."""

import os
import sys
from typing import IO, Final

from runtime._console_bar import TqdmBar
from runtime._console_notebook import Notebook, in_kernel, in_shell
from runtime._console_panel import Panel, Terminal
from runtime._console_renderer import PlainLines, Renderer
from runtime._shown import TERMINAL, ConsoleStyle

_INCAPABLE: Final = ("", "dumb", "unknown")


def choose_renderer(style: ConsoleStyle, file: IO[str] | None, interval: float) -> Renderer | None:
    """Make the renderer that is asked for, or lines where it cannot be; None without any stream.

    Args:
        style: What is asked for; "auto" for what suits best.
        file: Where to write; by default standard error, or standard output if that one alone is a
            terminal.
        interval: Seconds between two lines.
    """
    if file is None and style in ("auto", "notebook") and in_kernel():
        return Notebook()
    stream = file or _standard_stream()
    if stream is None:
        return None
    if style == "tqdm" and TERMINAL.acquire(blocking=False):
        return TqdmBar(stream)
    suits = style == "panel" or (style == "auto" and not os.environ.get("CI") and not in_shell())
    if suits and _can_draw(stream) and TERMINAL.acquire(blocking=False):
        return Panel(Terminal(stream))
    return PlainLines(stream, interval)


def _standard_stream() -> IO[str] | None:
    known = (sys.stderr, sys.stdout)
    streams = [each for each in known if each is not None and not each.closed]  # pyright: ignore[reportUnnecessaryComparison] - None in a process without them
    return next((each for each in streams if each.isatty()), streams[0] if streams else None)


def _can_draw(stream: IO[str]) -> bool:
    """Whether it is a terminal that knows of scrolled rows, and large enough."""
    if not stream.isatty() or os.environ.get("TERM", "") in _INCAPABLE:
        return False
    try:
        return Terminal(stream).room() is not None
    except OSError:  # it says that it is a terminal, and has no descriptor or no size
        return False
