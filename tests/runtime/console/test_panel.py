"""The panel on terminals that change while it is drawn."""

import os
import pty
from types import SimpleNamespace

import pytest

from runtime._console_panel import Panel, Terminal
from runtime._console_progress import Progress
from tests.runtime.console.screen import new_screen, resize


@pytest.fixture
def place():
    """A terminal of 30 rows with a panel, and a screen that shows what is written there."""
    ours, theirs = pty.openpty()
    resize(ours, 90, 30)
    os.set_blocking(ours, False)
    file = os.fdopen(theirs, "w", encoding="utf-8")
    panel = Panel(Terminal(file))
    screen, stream = new_screen()

    def draw(step=1):
        panel.draw(Progress(name="gpt", step=step, total=10), [], 1.0)
        return look()

    def look():
        file.flush()
        while chunk := _read(ours):
            stream.feed(chunk.decode())
        return [row.rstrip() for row in screen.display]

    def change(columns, lines):
        look()
        resize(ours, columns, lines)
        screen.resize(lines, columns)

    yield SimpleNamespace(
        panel=panel, file=file, screen=screen, draw=draw, look=look, change=change
    )
    panel.close(Progress(), [], 1.0)
    file.close()
    os.close(ours)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def test_takes_the_last_rows(place):
    """What was there moves up, a line begun is gone on with, and everything scrolls above."""
    place.file.write("".join(f"old {n}\n" for n in range(29)) + "begun ")
    place.draw()
    place.file.write("and ended\nnext\n")
    rows = place.look()
    assert rows[-6].startswith("── gpt ─")
    assert rows[-5].endswith("step 1/10")
    assert rows[:-6][-4:-1] == ["old 28", "begun and ended", "next"]


@pytest.mark.parametrize("lines", [40, 20])
def test_moves_with_the_window(place, lines):
    """A larger or smaller window has one panel, in its last rows; a small one none."""
    place.file.write("before\n")
    place.draw()
    place.change(70, lines)
    place.draw()
    place.file.write("after\n")
    rows = place.look()
    assert rows[lines - 6].startswith("── gpt ─")
    assert len(rows[lines - 6]) < 70
    assert sum(row.startswith("──") for row in rows) == 1
    assert "after" in rows

    place.change(70, 8)
    rows = place.draw()
    assert place.screen.margins is None
    assert not any(row.startswith("──") for row in rows)


def test_survives_what_clears_the_screen(place):
    """Somebody resets the terminal: the next drawing has all of it again."""
    place.draw()
    place.file.write("\x1bc")
    assert place.look()[-5] == ""
    rows = place.draw(step=2)
    assert rows[-5].endswith("step 2/10")
    assert (place.screen.margins.top, place.screen.margins.bottom) == (0, 23)


def test_keeps_out_of_the_background(place):
    """A job in the background of a shell gives the rows back, and takes them again in front."""

    class Job(Terminal):
        is_ours = True

    job = Job(place.file)
    panel = Panel(job)
    progress = Progress(name="gpt", step=1, total=10)
    panel.draw(progress, [], 1.0)
    assert place.look()[-5].endswith("step 1/10")
    job.is_ours = False
    panel.draw(progress, [], 1.0)
    assert not any(place.look())
    assert place.screen.margins is None
    job.is_ours = True
    panel.draw(progress, [], 1.0)
    assert place.look()[-5].endswith("step 1/10")
    panel.close(progress, [], 1.0)


def test_without_colours(place, monkeypatch):
    """NO_COLOR is obeyed."""
    assert Terminal(place.file).paint("words", "bad") == "\x1b[1;31mwords\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(place.file).paint("words", "bad") == "words"
