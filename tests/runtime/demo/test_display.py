"""The display: on a terminal, without one, and with log lines in between."""

import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from io import StringIO

import pytest
from rich.console import Console

from bus import DecisionApplied, Evaluated, MetricsLogged
from runtime import Run
from runtime.demo import Recipe
from runtime.demo._display import ProgressDisplay, draw
from runtime.demo._progress import Progress

ESCAPE = "\x1b"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
RECIPE = Recipe(steps=100)


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=100, legacy_windows=False)


def written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


class TestDraw:
    def test_shows_all_there_is(self):
        """Step, curve, loss, evaluation, speed and time left in two lines."""
        progress = Progress(
            step=50,
            steps=100,
            loss=1.5,
            curve=(3.0, 2.0, 1.0),
            tokens_per_second=12_345.6,
            seconds_left=61,
            evaluated=(40, 1.75),
        )
        console = Console(file=StringIO(), width=100)
        console.print(draw(progress))
        bar, details = written(console).splitlines()
        assert bar.rstrip().endswith("step 50/100")
        assert details.split("  ")[0] == "█▅▁"
        assert "loss 1.500  validation 1.750 at step 40  12,346 tok/s  1:01 left" in details

    def test_is_plain_where_bars_cannot_be_shown(self):
        """No curve on an ASCII terminal, and the loss is there all the same."""
        console = Console(file=StringIO(), width=100)
        console.print(draw(Progress(step=1, steps=2, loss=1.0, curve=(1.0,)), ascii_only=True))
        assert "▁" not in written(console)
        assert "loss 1.000" in written(console)


class TestOnATerminal:
    def test_log_lines_go_above_the_bar(self, monkeypatch):
        """A handler made earlier writes through the console, and gets its stream back."""
        stream = StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        handler = logging.StreamHandler()
        logger = logging.getLogger("tests.demo.display")
        logger.addHandler(handler)
        console = terminal()
        try:
            with ProgressDisplay(console, RECIPE):
                logger.warning("the disk is slow")
                assert stream.getvalue() == ""
            logger.warning("afterwards")
        finally:
            logger.removeHandler(handler)
        assert handler.stream is stream
        assert stream.getvalue() == "afterwards\n"
        assert "the disk is slow" in written(console)

    def test_other_handlers_are_left_alone(self, tmp_path):
        """A log file stays a log file."""
        handler = logging.FileHandler(tmp_path / "log.txt")
        logger = logging.getLogger("tests.demo.file")
        logger.addHandler(handler)
        console = terminal()
        try:
            with ProgressDisplay(console, RECIPE):
                logger.warning("for the file")
        finally:
            logger.removeHandler(handler)
            handler.close()
        assert (tmp_path / "log.txt").read_text() == "for the file\n"
        assert "for the file" not in written(console)

    def test_leaves_the_terminal_as_it_was(self):
        """The cursor comes back, even when training raises."""
        console = terminal()
        with pytest.raises(ZeroDivisionError), ProgressDisplay(console, RECIPE):
            raise ZeroDivisionError
        assert written(console).rindex(SHOW_CURSOR) > written(console).rindex(HIDE_CURSOR)

    def test_follows_a_run(self, tmp_path):
        """The last state stays visible; decisions are told above it, with who and why."""
        console = terminal()
        with ProgressDisplay(console, RECIPE) as display, Run(dir=tmp_path) as run:
            display.follow(run)
            run.log({"loss": 1.25}, step=99)
            run.publish(Evaluated(step=99, metrics={"eval_loss": 1.5}))
            run.publish(
                DecisionApplied(step=99, request={"type": "stop"}, by="me", reason="enough")
            )
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console))
        assert "step 99: stop by me: enough" in text
        assert "step 99/100" in text.splitlines()[-2]
        assert "loss 1.250  validation 1.500 at step 99" in text.splitlines()[-1]


class TestWithoutATerminal:
    def test_prints_plain_lines_seconds_apart(self, tmp_path):
        """A hundred steps in ten seconds of the run's time are three lines."""
        console = Console(file=StringIO(), width=60)
        with ProgressDisplay(console, RECIPE) as display, Run(dir=tmp_path) as run:
            display.follow(run)
            for step in range(1, 101):
                run.publish(MetricsLogged(step=step, time=100 + step / 10, metrics={"loss": 1.0}))
        lines = written(console).splitlines()
        assert [line.split()[1] for line in lines] == ["1/100", "51/100"]
        assert ESCAPE not in written(console)

    def test_prints_nothing_when_disabled(self, tmp_path):
        """Nor does it subscribe."""
        console = terminal()
        with ProgressDisplay(console, RECIPE, enabled=False) as display, Run(dir=tmp_path) as run:
            display.follow(run)
            run.log({"loss": 1.0}, step=1)
            assert run.statistics().subscribers == {}
        assert written(console) == ""


def read_all(descriptor: int) -> str:
    """Everything that is written to the other side of a pseudo-terminal until it is closed."""
    data = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux says so when the last writer has gone
            chunk = b""
        if not chunk:
            return data.decode()
        data += chunk


@pytest.mark.slow
class TestTheCommand:
    def test_draws_on_a_terminal(self, command, environment, tmp_path):
        """A bar that ends at the last step, news above it, the cursor back, the summary below."""
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path
        )
        os.close(theirs)
        try:
            text = read_all(ours)
            assert process.wait(timeout=110) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
        assert plain.index("step 15: save by save_the_best") < plain.index("step 60/60")
        assert "tok/s" in plain
        assert plain.index("step 60/60") < plain.index("demo: finished")

    def test_is_plain_without_a_terminal(self, run_command):
        """No escape sequence in a log file."""
        done = run_command()
        assert (done.returncode, done.stderr) == (0, "")
        assert ESCAPE not in done.stdout
        assert "step 15: save by save_the_best: best validation loss so far" in done.stdout
        assert "demo: finished" in done.stdout

    def test_says_what_is_wrong_in_one_line(self, run_command):
        """No traceback for a wrong option."""
        done = run_command("--resume")
        assert done.returncode == 1
        assert done.stderr.startswith("demo: nothing to resume in ")
        assert done.stderr.count("\n") == 1
