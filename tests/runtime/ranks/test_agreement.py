"""Ranks in processes of their own: what one asks for, all do at the same step."""

import pytest

from tests.runtime.ranks.trials import run_trials

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [2, 4])
def test_every_rank_acts_at_the_same_step(tmp_path, size):
    """Requests from any rank at any moment, in long phases, by clocks, of starved ranks too."""
    trials = run_trials(tmp_path, size=size, count=30, seed=size, timeout=150)

    assert trials.failures == []
    assert trials.count == 30
    assert set(trials.asked) == {"training", "evaluating", "saving", "compiling"}
    assert trials.starved
    assert trials.stopped > 0
