"""Three real ranks that come to stand still, one way after the other, and a straggler."""

from pathlib import Path

import pytest

from bus import AlertRaised, Event, JournalReader, StallDetected, StallEnded, StragglerDetected
from tests.runtime.ranks.launching import launch
from tests.waiting import HANG

CHILD = Path(__file__).with_name("job_child.py")
SIZE = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a job that has ended."""
    folder = tmp_path_factory.mktemp("job")
    ended = launch(str(CHILD), folder, size=SIZE, timeout=6 * HANG)
    assert [each.code for each in ended] == [0] * SIZE, ended
    return folder


def told(folder: Path, name: str, *kinds: type[Event]) -> list[tuple[int, Event]]:
    """Events of a run with the ranks whose journals they are in."""
    records = JournalReader(folder / "runs" / name).records(types=kinds)
    return [(record.rank, record.event) for record in records]


def the_stall(folder: Path, name: str, kind: str) -> StallDetected:
    """The stall of this kind in a run; on a machine that is too busy there may be others."""
    stalls = [each for _, each in told(folder, name, StallDetected)]
    assert len(told(folder, name, AlertRaised)) == len(stalls)
    return next(each for each in stalls if isinstance(each, StallDetected) and each.kind == kind)


def stacks_of(stall: StallDetected, rank: int) -> str:
    """What a rank was doing."""
    (found,) = (each.stacks for each in stall.stacks if rank in each.ranks)
    return found


@pytest.mark.slow
class TestJob:
    def test_a_sleeping_rank(self, job):
        """Named, not those that wait for it, with everybody's stacks and the phase."""
        stall = the_stall(job, "sleeping", "rank")
        assert (stall.ranks, stall.phase) == ((1,), "training")
        assert "in wait_for" in stacks_of(stall, 1)
        for rank in (0, 2):
            assert "all_reduce" in stacks_of(stall, rank)
        assert told(job, "sleeping", StallEnded)

    def test_a_collective_left_out(self, job):
        """The rank that left it out and goes on is named, not those inside it."""
        stall = the_stall(job, "skipping", "collective")
        assert (stall.ranks, stall.phase) == ((1,), "training")
        assert "in skipping" in stacks_of(stall, 1)
        for rank in (0, 2):
            assert "all_reduce" in stacks_of(stall, rank)

    def test_a_process_that_is_stopped(self, job):
        """It cannot answer, and is named for that."""
        stall = the_stall(job, "stopped", "silent")
        assert stall.ranks == (2,)
        assert {rank for each in stall.stacks for rank in each.ranks} == {0, 1}

    def test_a_straggler(self, job):
        """All its steps take as long as the others', yet it is the one that is busy."""
        found = [each for _, each in told(job, "dawdling", StragglerDetected)]
        (slow,) = (e for e in found if isinstance(e, StragglerDetected) and e.rank == 1)
        assert "in dawdling" in slow.place
        assert slow.busy_seconds > 2 * slow.usual_seconds

    def test_a_worker_that_was_killed(self, job):
        """Its rank says so before it fails, with the process and the phase."""
        stalls = told(job, "killing", StallDetected)
        ((rank, stall),) = (pair for pair in stalls if "worker died" in str(pair[1]))
        assert isinstance(stall, StallDetected)
        assert rank == 1
        assert (stall.kind, stall.ranks, stall.phase) == ("worker", (1,), "training")
        assert (job / "killed").read_text() in stall.text
        assert "killing" in stacks_of(stall, 1)
        assert len(told(job, "killing", AlertRaised)) == len(stalls)
