"""SIGKILL at random moments of who trains, and of who delivers to Neptune; then a resume."""

import os

import pytest

from tests.sinks.neptune_kills import run_neptune_kills

COUNT = int(os.environ.get("HOTLOOP_KILLS", "3"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_every_point_is_there_once(victim):
    """None lost, none twice, and steps that were trained again keep their first value."""
    trials = run_neptune_kills(COUNT, 20261121, victim)

    assert trials.failures == []
    assert trials.kills >= COUNT
