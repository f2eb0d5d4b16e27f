"""Whole programs on a terminal: whoever writes, however they end, nothing is torn."""

import re
import signal
from pathlib import Path

import pytest

from tests.runtime.console import children
from tests.runtime.console.screen import LINES, Terminal, new_screen, replay, rows

pytestmark = pytest.mark.slow

PANEL = 6
BACK = "\x1b8"
WRITERS = ("early", "aside", "late", "native", "child")


def start(name, folder):
    return Terminal(children.__file__, name, folder)


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """A program in which five write at once: its status, the screen, and its last rows then.

    The rows are those of each moment at which the panel had just been drawn.
    """
    with start("torn", tmp_path_factory.mktemp("torn")) as terminal:
        status = terminal.finish()
        *pieces, rest = terminal.text().split(BACK)
    panels, screen, stream = [], *new_screen()
    for piece in pieces:
        stream.feed(piece + BACK)
        panels.append(screen.display[-PANEL:])
    stream.feed(rest)
    return status, screen, panels


class TestEverybodyWrites:
    """Handlers made before and after, for both streams; C code; a child process."""

    def test_every_line_is_whole(self, torn):
        """Each is a row of its own, in its order, on the screen or scrolled away."""
        _, screen, _ = torn
        shown = rows(screen)
        for name in WRITERS:
            written = [f"{name} {n:03d} {name * 5}." for n in range(children.LINES)]
            assert [row for row in shown if row.startswith(f"{name} ")] == written

    def test_the_panel_is_whole(self, torn):
        """Each time it was drawn, its rows are the last ones, and complete."""
        _, _, panels = torn
        assert len(panels) > children.LINES / 10
        for panel in panels[1:-1]:  # the first empties the rows, the last gives them back
            assert re.fullmatch(r"── gpt(, failed)? ─+ \d+:\d\d ──\s*", panel[0]), panel
            assert re.search(rf"step [\d,]+/{children.LINES}|no step yet", panel[1]), panel

    def test_alerts_stay(self, torn):
        """They are lines among the others'."""
        _, screen, _ = torn
        alerts = [f"step {n * 100}: warning: spike: number {n}" for n in (1, 2)]
        assert [row for row in rows(screen) if "spike" in row] == alerts

    def test_an_exception_leaves_the_terminal_as_it_was(self, torn):
        """The panel is gone, its last words and the traceback stand where everything stands."""
        status, screen, _ = torn
        words = [row for row in screen.display if row.strip()]
        assert status == 1
        assert words[-1].rstrip() == "ZeroDivisionError: the exception's words"
        assert any(re.match(r"gpt: failed after \d+:\d\d  step", row) for row in words)
        assert not any("──" in row for row in rows(screen))
        assert screen.margins is None


def test_a_killed_program_loses_no_words(tmp_path):
    """The last words of C code are there, and the terminal has all its rows back."""
    with start("killed", tmp_path) as terminal:
        terminal.wait_for("step 1/10")
        terminal.type("\n")
        assert terminal.finish() == -signal.SIGKILL
        screen = replay(terminal.text())
    assert "what():  out of memory" in rows(screen)
    assert not any("──" in row for row in screen.display)
    assert screen.margins is None


def test_forked_workers(tmp_path):
    """They print without waiting for anybody, and their end does not end the panel."""
    with start("forked", tmp_path) as terminal:
        assert terminal.finish() == 0
        screen = replay(terminal.text())
    shown = rows(screen)
    workers = [f"worker {n:02d}." for n in range(1, 9)]
    assert [row for row in shown if row.startswith("worker")] == workers
    assert "still shown: True" in shown
    assert sum(row.startswith("gpt: finished after") for row in shown) == 1
    assert len(screen.display) == LINES
    assert screen.margins is None
    assert Path(tmp_path / "gpt").is_dir()
