"""SIGKILL while a run is delivered to Comet, and resumes at earlier steps."""

import os

import pytest

from tests.sinks.comet_kills import run_comet_kills

COUNT = int(os.environ.get("HOTLOOP_KILLS", "3"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_no_point_is_lost(victim):
    """Whoever is killed in the middle of what: in one experiment, each step has its one value."""
    trials = run_comet_kills(COUNT, 20261121, victim)

    assert trials.failures == []
    assert trials.kills == COUNT
