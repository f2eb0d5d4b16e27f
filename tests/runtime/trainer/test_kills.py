"""However often a training is killed, it ends as one that was not, and keeps what it reported."""

import os

import pytest

from tests.runtime.trainer.training_kills import run_kill_trials

KILLS = 5 * int(os.environ.get("HOTLOOP_SOAK", "1"))


@pytest.mark.slow
def test_sigkill():
    """At random moments, while checkpoints are written and between them, some twice."""
    assert run_kill_trials(KILLS, seed=int.from_bytes(os.urandom(3), "big")) == []
