"""However often a training is preempted, it ends as one that was not, and in the same run."""

import os

import pytest

from tests.runtime.trainer.preemption_trials import run_preemptions

PREEMPTIONS = 6 * int(os.environ.get("HOTLOOP_SOAK", "1"))


@pytest.mark.slow
def test_signals():
    """At random moments, inside evaluations, saves and compilations too, some several times."""
    assert run_preemptions(PREEMPTIONS, seed=int.from_bytes(os.urandom(3), "big")) == []
