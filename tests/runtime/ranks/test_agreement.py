"""Ranks in processes of their own: what one asks for, all do at the same step."""

import pytest

from tests.runtime.ranks.trials import run_trials

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [2, 4])
def test_every_rank_acts_at_the_same_step(tmp_path, size):
    """Requests of any kind, from any rank, at any moment, inside evaluations too."""
    trials = run_trials(tmp_path, size=size, count=30, seed=size, timeout=150)

    assert trials.failures == []
    assert trials.count == 30
    assert trials.asked > 0
    assert trials.stopped > 0
