"""A terminal that a program is started on: a pseudo-terminal, replayed on a screen of pyte's."""

import os
import pty
import struct
import termios
import threading
from fcntl import ioctl
from pathlib import Path

import pyte

from tests.interpreter import shared_interpreter
from tests.waiting import HANG, eventually

ROOT = Path(__file__).resolve().parents[3]
COLUMNS, LINES = 90, 30
_UNWANTED = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"}


def resize(descriptor, columns, lines):
    """Give a terminal another size, as a window's user does."""
    ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Terminal:
    """A terminal and the program on it. Use it as a context manager.

    Args:
        arguments: What Python is started with.
    """

    def __init__(self, *arguments):
        self._ours, theirs = pty.openpty()
        resize(self._ours, COLUMNS, LINES)
        kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        usual = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"}
        self.process = shared_interpreter().start(
            ["-W", "error", *arguments],
            env={**kept, **usual},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.close()
        self._reader.join(HANG)
        os.close(self._ours)

    def type(self, text):
        """Type on its keyboard."""
        os.write(self._ours, text.encode())

    def text(self):
        """What was written on it so far."""
        return self._written.decode(errors="replace")

    def wait_for(self, words):
        """Wait until something was written on it."""
        eventually(lambda: words in self.text(), HANG)

    def finish(self):
        """Wait for the program's end and that of whatever it left behind; its exit status."""
        status = self.process.wait(HANG)
        self._reader.join(HANG)
        assert not self._reader.is_alive(), "something still holds the terminal"
        return status

    def _read(self):
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # Linux says so when the last writer has gone
                return
            if not data:
                return
            self._written += data


def new_screen(columns=COLUMNS, lines=LINES):
    """A screen that keeps everything that has scrolled away, and what feeds it."""
    screen = pyte.HistoryScreen(columns, lines, history=100_000)
    return screen, pyte.Stream(screen)


def replay(text):
    """The screen after a text was written on it."""
    screen, stream = new_screen()
    stream.feed(text)
    return screen


def rows(screen):
    """All rows of a screen, those that have scrolled away included, without what is blank."""
    old = ["".join(row[x].data for x in range(screen.columns)) for row in screen.history.top]
    return [row.rstrip() for row in (*old, *screen.display)]
