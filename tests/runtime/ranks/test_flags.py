"""Flags that a callback sets on one rank alone: everybody does it, and nobody hangs."""

import json
from pathlib import Path

import pytest

from tests.runtime.ranks.launching import launch

pytestmark = pytest.mark.slow
CHILD = Path(__file__).with_name("flags_child.py")
EPOCHS = 30
STEPS = EPOCHS * 8


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two ranks did, by flag."""
    folder = tmp_path_factory.mktemp("flags")
    ended = launch(str(CHILD), folder, size=2, timeout=150)
    assert [each.code for each in ended] == [0, 0], ended
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    "flag",
    ["should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log"],
)
def test_all_ranks_do_it_at_one_step(seen, flag):
    """Whoever sets it: the ranks do the same at the same steps."""
    assert seen[0][flag] == seen[1][flag]


def test_a_stop_ends_training(seen):
    """It takes effect some steps after the third, not at the end."""
    assert 3 <= seen[0]["should_training_stop"]["steps"] < STEPS


def test_an_epoch_ends_early(seen):
    """One epoch is cut short, the others are whole."""
    ends = [step for what, step in seen[0]["should_epoch_stop"]["did"] if what == "epoch"]
    lengths = [after - before for before, after in zip([0, *ends], ends, strict=False)]

    assert len(lengths) == EPOCHS
    assert sum(length != 8 for length in lengths) <= 1
    assert seen[0]["should_epoch_stop"]["steps"] <= STEPS


@pytest.mark.parametrize("what", ["save", "evaluate", "log"])
def test_it_is_done_once(seen, what):
    """A request for one thing is obeyed once, behind the step at which it was made."""
    did = [step for kind, step in seen[0][f"should_{what}"]["did"] if kind == what]

    assert did
    assert did[0] >= 3
    assert len([step for step in did if step < STEPS]) == 1


def test_what_is_equal_everywhere_is_obeyed_at_once(seen):
    """A callback that says it is `rank_consistent` needs no agreement."""
    for rank in seen:
        assert ["save", 3] in rank["at once"]["did"]
