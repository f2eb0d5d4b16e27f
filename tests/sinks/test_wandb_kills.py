"""SIGKILL at random moments of a run that is delivered to W&B, and resumed."""

import os

import pytest

from tests.sinks.wandb_kills import run_wandb_kill_trials

COUNT = int(os.environ.get("HOTLOOP_KILLS", "3"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_every_row_is_there_once(victim, wandb_environment):
    """Without a gap, whoever was killed in the middle of what."""
    del wandb_environment
    trials = run_wandb_kill_trials(COUNT, 20261121, victim)

    assert trials.failures == []
    assert trials.kills >= COUNT
