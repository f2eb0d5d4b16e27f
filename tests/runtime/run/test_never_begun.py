"""A run that could not begin leaves nothing behind that its process's exit would have to close."""

import pytest

import runtime
from bus.testing import ended_runs


def test_a_run_that_was_refused_is_not_closed_at_exit(tmp_path, caplog):
    """The error is all there is of it."""
    with ended_runs(), pytest.raises(ValueError, match="cannot be a run's name"):
        runtime.Run("..", dir=tmp_path)
    assert caplog.text == ""
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_open_is_ended(tmp_path):
    """The test helper does what the exit does."""
    with ended_runs():
        run = runtime.Run("left", dir=tmp_path)
    assert run.closed
