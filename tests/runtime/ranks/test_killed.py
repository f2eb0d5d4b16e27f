"""A rank is killed in mid-training: the others end, and give one reason."""

import json

import pytest

from bus import JournalReader, RunEnded, RunInfo, run_state
from tests.runtime.ranks import killed_ranks
from tests.runtime.trainer.nursery import started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery():
    """The process that starts the jobs."""
    with started(killed_ranks.__file__) as nursery:
        yield nursery


def ends_after_kill(nursery, folder, victim):
    """Kill a rank; return how the others' journals end."""
    nursery.fork(f"{victim} {folder}")
    assert nursery.lines.next(150) == "ended 0"
    codes = json.loads((folder / "ended.json").read_text())["codes"]
    assert codes == [-9 if rank == victim else 1 for rank in range(killed_ranks.SIZE)]
    return {
        each.rank: (each.event.outcome, each.event.error)
        for each in JournalReader(folder / "killed").records(types=(RunEnded,))
    }


def test_any_rank(nursery, tmp_path):
    """The others fail with the words of the first of them to notice, and so does the run."""
    ends = ends_after_kill(nursery, tmp_path, 1)

    assert set(ends) == {0, 2}
    assert ends[0] == ends[2]
    outcome, error = ends[0]
    assert outcome == "failed"
    assert "RuntimeError" in (error or "")
    last = RunInfo.load(tmp_path / "killed").attempts[-1]
    assert (last.outcome, last.error) == (outcome, error)


def test_the_one_that_holds_the_store(nursery, tmp_path):
    """The others know no more than that, and say it in the same words; the run has crashed."""
    ends = ends_after_kill(nursery, tmp_path, 0)

    reason = "the store that the ranks share does not answer; rank 0 holds it"
    assert ends == {1: ("failed", reason), 2: ("failed", reason)}
    assert run_state(tmp_path / "killed") == "crashed"
