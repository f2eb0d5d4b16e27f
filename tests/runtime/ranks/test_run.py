"""`Run` in a job of three ranks: one run, a journal each, one decision for all."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bus import (
    AlertRaised,
    AnomalyDetected,
    JournalReader,
    RanksError,
    RunEnded,
    RunInfo,
    RunStarted,
)
from bus.testing import JournalAsserter
from runtime._identity import identify
from runtime._ranks import Ranks, meet
from runtime._world import World
from tests.bus.live.test_leases import MemoryStore
from tests.runtime.ranks.launching import launch

CHILD = Path(__file__).with_name("run_child.py")
SIZE = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What each rank saw, by scenario, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("job")
    ended = launch(str(CHILD), folder, size=SIZE, timeout=150)
    assert [each.code for each in ended] == [0] * SIZE, ended
    seen = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(SIZE)]
    return folder, seen


def ends(folder: Path, name: str) -> list[RunEnded]:
    """The last event of each rank's journal."""
    records = [*JournalReader(folder / "runs" / name).records(types=(RunEnded,))]
    assert [record.rank for record in records] == list(range(SIZE))
    return [record.event for record in records]


@pytest.mark.slow
class TestJob:
    def test_one_run(self, job):
        """All ranks are in the same run and attempt, and each has its own journal."""
        folder, seen = job
        runs = [rank["one_run"] for rank in seen]

        assert runs[0] == runs[1] == runs[2]
        assert runs[0]["dir"] == str(folder / "runs" / "one")
        JournalAsserter(folder / "runs" / "one").unbroken()
        started = JournalReader(folder / "runs" / "one").records(types=(RunStarted,))
        assert [(each.attempt, each.rank) for each in started] == [
            (attempt, rank) for attempt in (1, 2) for rank in range(SIZE)
        ]

    def test_resumed(self, job):
        """The next attempt is one attempt for all, and counted once."""
        folder, seen = job

        assert [rank["again"] for rank in seen] == [
            {"id": seen[0]["one_run"]["id"], "attempt": 2, "resumed": True}
        ] * SIZE
        info = RunInfo.load(folder / "runs" / "one")
        assert [(each.number, each.outcome) for each in info.attempts] == [
            (1, "finished"),
            (2, "finished"),
        ]

    def test_rank_0_delivers(self, job):
        """A sink gets the events of rank 0, and those of all ranks if it asks for them."""
        folder, _ = job
        first = (folder / "lines").read_text().splitlines()
        every = (folder / "all_lines").read_text().splitlines()

        assert first == [f"0 {step:.1f}" for step in range(5)]
        assert sorted(every) == sorted(
            f"{rank} {rank * 100 + step:.1f}" for rank in range(SIZE) for step in range(5)
        )

    def test_own_disks(self, job):
        """A machine whose disk rank 0 does not see keeps and delivers its ranks' part of a run."""
        folder, seen = job
        own = [rank["own_disks"] for rank in seen]
        assert own == [{"id": own[0]["id"], "attempt": 2}] * SIZE

        for machine, ranks in (("near", [0]), ("far", [1, 2])):
            run = folder / machine / "runs" / "own"
            info = RunInfo.load(run)
            assert info.id == own[0]["id"]
            assert [each.outcome for each in info.attempts] == ["finished", "finished"]
            started = JournalReader(run).records(types=(RunStarted,))
            assert [each.rank for each in started] == ranks * 2
            delivered = (folder / machine / "all_lines").read_text().splitlines()
            assert sorted(delivered) == sorted(
                f"{rank} {rank * 100 + n:.1f}" for rank in ranks for n in range(2)
            )
        assert (folder / "near" / "lines").exists()
        assert not (folder / "far" / "lines").exists()

    def test_subscribers(self, job):
        """They run on rank 0, and everywhere with `ranks="all"`."""
        _, seen = job

        assert [rank["subscribers"]["seen"] for rank in seen] == [
            ["each 0", "first 0"],
            ["each 1"],
            ["each 2"],
        ]

    def test_rank_0_shows(self, job):
        """A console asked for by every rank is there once."""
        _, seen = job

        assert [rank["subscribers"]["console"] for rank in seen] == ["lines", None, None]

    def test_a_subscriber_stops_all(self, job):
        """What rank 0's subscriber asks for, all ranks do at the same step."""
        folder, seen = job

        assert seen[0]["from_a_subscriber"]["stopped"]
        assert all(rank["from_a_subscriber"] == seen[0]["from_a_subscriber"] for rank in seen)
        assert [each.outcome for each in ends(folder, "from-a-subscriber")] == ["stopped"] * SIZE

    def test_deciders(self, job):
        """Rank 0 asks them; every rank stops at the very step of the event."""
        _, seen = job

        assert [rank["deciders"]["last"] for rank in seen] == [6] * SIZE
        assert [rank["deciders"]["asked"] for rank in seen] == [[*range(7)], [], []]

    def test_guarded(self, job):
        """What one rank's guard finds stops all at one step, and rank 0 raises the one alert."""
        folder, seen = job

        assert seen[0]["guarded"]["stopped"]
        assert all(rank["guarded"] == seen[0]["guarded"] for rank in seen)
        reader = JournalReader(folder / "runs" / "guarded")
        anomalies = [(r.rank, r.event.step) for r in reader.records(types=(AnomalyDetected,))]
        assert anomalies == [(1, 7)]
        ((rank, alert),) = ((r.rank, r.event) for r in reader.records(types=(AlertRaised,)))
        assert (rank, alert.step) == (0, 7)
        assert alert.text == "loss is nan at step 7 (found by the loss guard on rank 1)"

    def test_too_late(self, job):
        """A request behind the last safe point is refused on the rank that made it."""
        _, seen = job

        assert [rank["refused_at_the_end"] for rank in seen] == [
            {"applied": False, "why": "the run ended"}
        ] * SIZE

    def test_one_fails(self, job):
        """All end as failed, with the words of the rank that failed first."""
        folder, seen = job
        first = "rank 1: ValueError: no such thing"

        assert seen[1]["one_fails"]["error"] == "ValueError: no such thing"
        assert seen[0]["one_fails"]["error"] == f"RanksError: {first}"
        assert seen[2]["one_fails"]["error"] == f"RanksError: {first}"
        assert [(each.outcome, each.error) for each in ends(folder, "one-fails")] == [
            ("failed", first)
        ] * SIZE
        assert RunInfo.load(folder / "runs" / "one-fails").attempts[-1].error == first

    def test_one_leaves(self, job):
        """A rank that ends too early is named by those that fail for want of it."""
        folder, _ = job
        first, left, last = ends(folder, "one-leaves")

        assert left.outcome == "finished"
        assert (first.outcome, last.outcome) == ("failed", "failed")
        assert first.error == last.error
        assert "before that ended rank 1" in (first.error or "")


def test_nowhere_to_meet():
    """A launcher that names no place is told what to set."""
    with pytest.raises(RanksError, match=r"rank 1 of 2, but MASTER_ADDR=None .* torchrun"):
        meet({"RANK": "1", "WORLD_SIZE": "2"})
    with pytest.raises(RanksError, match=r"MASTER_PORT='many' name no place"):
        meet({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "many"})
    assert meet({}) is None


def test_a_disk_of_its_own(tmp_path, caplog):
    """A rank that does not see the run's folder says that its journal stays where it is."""
    store = MemoryStore()
    first = Ranks(World(0, 2, 0), store, holds_store=False)
    other = Ranks(World(1, 2, 0), store, holds_store=False)

    def find():
        return identify(name="r", project=None, parent=tmp_path, resume=None, from_step=None)

    known = first.share(find)
    assert other.share(find) == replace(known, keeps=False)
    assert not caplog.records
    (known.folder / "run.json").unlink()
    assert other.share(find).keeps
    assert "rank 1 does not see the run's folder" in caplog.text


def test_a_call_on_one_rank():
    """What needs all ranks is refused where one has not come, or came to something else."""
    store = MemoryStore()
    first, other = (Ranks(World(rank, 2, 0), store, holds_store=False) for rank in range(2))
    together = threading.Thread(target=first.gather, args=("evaluate", 30))
    together.start()
    other.gather("evaluate", 30)
    together.join()

    with pytest.raises(
        RanksError, match=r"evaluate needs every rank, and rank 1 of 2 has not come"
    ):
        first.gather("evaluate", 0.01)
    with pytest.raises(RanksError, match="predict needs every rank, and rank 0 calls evaluate"):
        other.gather("predict", 30)


def test_a_run_that_cannot_begin():
    """What rank 0 cannot do is an error on every rank, at once."""
    store = MemoryStore()

    def find():
        raise ValueError("'' cannot be a run's name")

    with pytest.raises(ValueError, match="cannot be a run's name"):
        Ranks(World(0, 2, 0), store, holds_store=False).share(find)
    with pytest.raises(RanksError, match="rank 0 could not begin the run: ValueError: ''"):
        Ranks(World(1, 2, 0), store, holds_store=False).share(find)
