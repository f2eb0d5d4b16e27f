"""A notebook's cell output that is kept up to date, as plain HTML: no widgets, and it is saved."""

import html
import importlib
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from runtime._console_progress import Progress
from runtime._console_renderer import Renderer, farewell
from runtime._console_rows import Style, line, panel, styled

_WIDTH: Final = 100
_NEWS: Final = 20
"""Lines of news that are kept in the output."""

_COLOURS: Final[dict[Style, str]] = {
    "plain": "",
    "dim": "opacity:.6",
    "bold": "font-weight:bold",
    "good": "color:#2a9d4a",
    "curve": "color:#1f8fb0",
    "warning": "color:#b07d00",
    "bad": "color:#c62828;font-weight:bold",
}


def in_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    return getattr(_ipython(), "kernel", None) is not None


def in_shell() -> bool:
    """Whether somebody types into IPython here, in a notebook or a terminal."""
    return _ipython() is not None


def _ipython() -> object | None:
    module: Any = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


class Notebook(Renderer):
    """Shows the panel's rows in the output of the cell that asked for it; make it there."""

    looks = "notebook"
    period = 0.5

    def __init__(self) -> None:
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._shown = ""
        self._handle: Any = importlib.import_module("IPython.display").display(
            _as_output("", ""), raw=True, display_id=True
        )

    def say(self, words: str) -> None:
        """Keep a line above the rows; the next drawing shows it."""
        self._news.append(words)

    def draw(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Send the rows, if they have changed."""
        rows = panel(progress, troubles, seconds, width=_WIDTH)
        shown = "\n".join([*map(html.escape, self._news), *(styled(row, _paint) for row in rows)])
        if shown != self._shown:
            self._shown = shown
            self._handle.update(_as_output(shown, line(progress, troubles)), raw=True)

    def close(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Leave the rows as they are at the end."""
        self.say(farewell(progress, troubles, seconds))
        self.draw(progress, troubles, seconds)


def _as_output(shown: str, plain: str) -> dict[str, str]:
    """What a front end is sent: HTML, and a line for those that show none."""
    style = "line-height:1.3;white-space:pre-wrap"
    return {"text/html": f'<pre style="{style}">{shown}</pre>', "text/plain": plain}


def _paint(text: str, style: Style) -> str:
    safe, look = html.escape(text), _COLOURS[style]
    return f'<span style="{look}">{safe}</span>' if look else safe
