"""SIGKILL at random moments: of the process that trains, and of the one that delivers."""

import os

import pytest

from tests.sinks.kill_trials import run_kill_trials

COUNT = int(os.environ.get("HOTLOOP_KILLS", "0"))


@pytest.mark.slow
@pytest.mark.timeout(180 + 10 * COUNT)
# Whoever delivers is always a process then; a trainer that is killed may do it itself.
@pytest.mark.parametrize(("victim", "usual"), [("trainer", 6), ("delivery", 3)])
def test_nothing_is_lost_and_nothing_arrives_twice(victim, usual):
    """What was journalled is in the sink's file once, whoever was killed in the middle of what."""
    assert run_kill_trials(COUNT or usual, 20261121, victim).failures == []
