"""SIGKILL at random moments while ClearML is delivered to, and resumes at earlier steps."""

import pytest

from tests.sinks.clearml_kills import run_clearml_kills


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_every_point_is_there_once_although_the_sender_is_killed(victim):
    """None lost, none twice, and one task for all attempts."""
    trials = run_clearml_kills(3, 20261121, victim)

    assert trials.failures == []
    assert trials.kills == 3
