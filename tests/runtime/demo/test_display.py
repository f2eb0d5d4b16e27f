"""The command's display: on a terminal and without one."""

import os
import pty
import re
import struct
import termios
from fcntl import ioctl

import pytest

from tests.waiting import HANG

ESCAPE = "\x1b"


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
    def test_draws_on_a_terminal(self, interpreter, command, environment, tmp_path):
        """News above a panel, which leaves a line with the last step; the summary below."""
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        both = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        process = interpreter.start(command, env=environment, cwd=tmp_path, **both)
        os.close(theirs)
        try:
            text = read_all(ours)
            assert process.wait(4 * HANG) == 0
        finally:
            process.close()
            os.close(ours)
        plain = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[78])", "", text)
        assert plain.index("step 15: save by save_the_best") < plain.index("step 60/60")
        assert "it/s" in plain
        assert plain.index("step 60/60") < plain.index("── demo: finished ──")

    def test_is_plain_without_a_terminal(self, run_command):
        """No escape sequence in a log file."""
        done = run_command()
        assert done.code == 0, done.err
        assert ESCAPE not in done.out + done.err
        assert "step 15: save by save_the_best: best validation loss so far" in done.out
        assert "demo: finished" in done.out

    def test_says_what_is_wrong_in_one_line(self, run_command):
        """No traceback for a wrong option."""
        done = run_command("--resume")
        assert done.code == 1
        assert done.err.startswith("demo: nothing to resume in ")
        assert done.err.count("\n") == 1
