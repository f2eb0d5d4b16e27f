"""A panel in the last rows of a terminal, above which anybody may write as if it were not there.

The rows belong to us because the terminal is told to scroll only those above them (DECSTBM, as
apt's progress bar has it). So nothing of anybody's output goes through here: no stream, handler or
file descriptor is replaced, and nothing can be torn, lost or held up on its way. Each drawing is
one `write`, which a terminal takes whole: it keeps the cursor, sets the scrolled rows anew, draws,
and puts the cursor back.

Should the process be killed, a shell that waits for just that gives the terminal its rows back.
"""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import IO, Final

from runtime._console_progress import Progress
from runtime._console_renderer import Renderer, farewell
from runtime._console_rows import PANEL_ROWS, Row, Style, panel, styled

_KEEP, _BACK = "\x1b7", "\x1b8"
_SCROLL_ALL: Final = _KEEP + "\x1b[r" + _BACK
_ERASE_BELOW: Final = "\x1b[J"
_LEAVE: Final = _SCROLL_ALL + _ERASE_BELOW

_LEAST_COLUMNS: Final = 20
_LEAST_LINES: Final = PANEL_ROWS + 6

_COLOURS: Final[dict[Style, str]] = {
    "plain": "",
    "dim": "2",
    "bold": "1",
    "good": "32",
    "curve": "36",
    "warning": "33",
    "bad": "1;31",
}

_GUARD: Final = r"""trap "" HUP INT TERM TSTP; read -r _ || printf '\0337\033[r\0338\033[J'"""
"""A shell's program: a line on its input is a farewell, the end of its input is a death."""


class Terminal:
    """What a terminal can be asked, and one way to write to it."""

    def __init__(self, file: IO[str]) -> None:
        self.descriptor: int = file.fileno()
        self.ascii_only: bool = "utf" not in str(getattr(file, "encoding", None) or "").lower()
        self.coloured: bool = not os.environ.get("NO_COLOR")

    def room(self) -> os.terminal_size | None:
        """Its columns and lines; None if they are too few for a panel.

        Raises:
            OSError: It is no terminal.
        """
        size = os.get_terminal_size(self.descriptor)
        enough = size.columns >= _LEAST_COLUMNS and size.lines >= _LEAST_LINES
        return size if enough else None

    @property
    def is_ours(self) -> bool:
        """Whether to draw on it: not while this process is in the background of a shell."""
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:  # no shell has put this process into its background
            return True

    def write(self, text: str) -> None:
        """Write all of it, in one piece as far as the terminal takes it so."""
        data = text.encode("ascii" if self.ascii_only else "utf-8", errors="replace")
        while data:
            data = data[os.write(self.descriptor, data) :]

    def paint(self, text: str, style: Style) -> str:
        """A text in colour, if there are any."""
        colour = _COLOURS[style] if self.coloured else ""
        return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


class Panel(Renderer):
    """Draws the panel, and leaves a line where it was.

    Args:
        terminal: Where to draw.
    """

    looks = "panel"
    holds_terminal = True

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._size: os.terminal_size | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def say(self, words: str) -> None:
        """Write a line where everybody writes."""
        self._terminal.write(words + "\r\n")

    def draw(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Draw the rows, on a terminal of whatever size it has now."""
        size = self._terminal.room()
        if size is None or not self._terminal.is_ours:
            self._leave()
            return
        rows = panel(
            progress,
            troubles,
            seconds,
            width=size.columns - 1,  # a character in the last column may wrap later
            ascii_only=self._terminal.ascii_only,
        )
        begin = "" if size == self._size else make_room()
        if self._guard is None:
            self._guard = _start_guard(self._terminal.descriptor)
        self._size = size
        self._terminal.write(begin + self._frame(rows, size.lines))

    def close(self, progress: Progress, troubles: Sequence[str], seconds: float) -> None:
        """Give the rows back, and say how it ended."""
        try:
            self._leave()
            self.say(farewell(progress, troubles, seconds))
        finally:
            self._dismiss_guard()

    def _leave(self) -> None:
        if self._size is not None:
            self._size = None
            self._terminal.write(_LEAVE)

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.communicate(b"\n", timeout=1.0)

    def _frame(self, rows: Sequence[Row], lines: int) -> str:
        first = lines - PANEL_ROWS + 1
        drawn = [
            f"\x1b[{first + index};1H\x1b[0m{styled(row, self._terminal.paint)}\x1b[K"
            for index, row in enumerate(rows)
        ]
        return f"{_KEEP}\x1b[1;{first - 1}r{''.join(drawn)}{_BACK}"


def make_room() -> str:
    """What empties the last rows and takes the cursor above them, in the column where it is."""
    return _LEAVE + "\x1bD" * PANEL_ROWS + f"\x1b[{PANEL_ROWS}A"


def _start_guard(descriptor: int) -> "subprocess.Popen[bytes] | None":
    """Start what tidies the terminal up if this process dies; None where there is no shell."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own words
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends our group is not meant for it
        )
    except OSError:
        return None
