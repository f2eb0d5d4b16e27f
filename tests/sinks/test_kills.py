"""SIGKILL at random moments: of the process that trains, and of the one that delivers."""

import os

import pytest

from tests.sinks.kill_trials import run_kill_trials

COUNT = int(os.environ.get("HOTLOOP_KILLS", "6"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_nothing_is_lost_and_nothing_arrives_twice(victim):
    """What was journalled is in the sink's file once, whoever was killed in the middle of what."""
    assert run_kill_trials(COUNT, 20261121, victim).failures == []
