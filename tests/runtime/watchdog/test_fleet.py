"""Watchdogs of several ranks over one store, on a virtual clock: who asks, answers, and says."""

import math

import pytest

from bus import AlertRaised, StallDetected, StallEnded, StragglerDetected
from runtime._watchdog_answers import Answer
from runtime._watchdog_fleet import Fleet
from runtime._watchdog_lateness import Judge, Lateness, Seen
from runtime._watchdog_reports import Reports
from runtime._watchdog_stacks import Look
from tests.bus.live.test_leases import MemoryStore

LOOK = 0.5


class WatchStore(MemoryStore):
    """As the other one, with many keys at once, and a count of what is asked."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def get(self, key):
        self.asked += 1
        return super().get(key)

    def get_all(self, keys):
        self.asked += 1
        found = [super(WatchStore, self).get(key) for key in keys]
        return None if None in found else found


class Rank:
    """One simulated rank: what it does is set from outside."""

    def __init__(self, store: WatchStore, rank: int, size: int):
        self.rank = rank
        self.passed = 0
        self.doing = "code"
        self.lenient = False
        self.mute = False
        self.events: list[object] = []
        self.judge = Judge(10.0)
        self.fleet = Fleet(store, rank, size, floor=10.0, reports=Reports(self), answer=self.answer)

    def publish(self, event: object) -> None:
        self.events.append(event)

    def answer(self, lateness: Lateness) -> Answer:
        return Answer(
            question=0,
            rank=self.rank,
            passed=self.passed,
            step=self.passed,
            phase="saving" if self.lenient else "training",
            lenient=self.lenient,
            silent=lateness.silent,
            limit=lateness.limit,
            activity=self.doing,
            place=f"{self.doing}.py",
            stacks="",
        )

    def look(self, now: float) -> None:
        if not self.mute:
            seen = Seen(now, self.passed, int(self.lenient), judged=not self.lenient)
            self.fleet.turn(now, self.judge.look(seen))


class Job:
    """All ranks, and the time."""

    def __init__(self, size: int):
        self.store = WatchStore()
        self.ranks = [Rank(self.store, rank, size) for rank in range(size)]
        self.now = 0.0

    def run(self, seconds: float, going: "set[int] | None" = None) -> None:
        """Let time go by; these ranks pass two safe points a second."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            for each in self.ranks:
                if going is None or each.rank in going:
                    each.passed += 1
                # Looks of different ranks do not fall together.
                each.look(self.now + 0.3 * math.sin(each.rank) * LOOK)

    def events(self, kind: type) -> list[tuple[int, object]]:
        return [(r.rank, e) for r in self.ranks for e in r.events if isinstance(e, kind)]


@pytest.fixture(params=[2, 5])
def job(request):
    job = Job(request.param)
    job.run(60)
    assert not job.events(object)
    return job


def test_one_alert_by_rank_0(job):
    """All but one wait; within the limit rank 0 says so once, and once that they go on."""
    for each in job.ranks:
        each.doing = "exchange"
    job.ranks[1].doing = "code"
    began = job.now
    job.run(9.9, going=set())
    ((rank, stall),) = job.events(StallDetected)
    assert rank == 0
    assert stall.ranks == (1,)
    assert stall.phase == "training"
    assert stall.seconds <= job.now - began + 1
    assert {each for group in stall.stacks for each in group.ranks} == {*range(len(job.ranks))}

    job.run(300, going=set())
    job.run(60)
    assert len(job.events(StallDetected)) == len(job.events(AlertRaised)) == 1
    ((rank, ended),) = job.events(StallEnded)
    assert rank == 0
    assert 300 < ended.seconds < 315


def test_again(job):
    """A second stall is reported like the first."""
    for _ in range(2):
        job.run(30, going=set())
        job.run(60)
    assert len(job.events(StallDetected)) == len(job.events(StallEnded)) == 2


def test_one_rank_alone_is_late(job):
    """Where ranks do not wait for one another, the others go on and rank 0 reports it."""
    others = {each.rank for each in job.ranks} - {1}
    job.run(9.9, going=others)
    ((rank, stall),) = job.events(StallDetected)
    assert (rank, stall.ranks) == (0, (1,))


def test_waiting_for_one_that_saves(job):
    """It may take any time; if it is stuck behind that, the others' wait is reported."""
    for each in job.ranks:
        each.doing = "exchange"
    job.ranks[0].doing, job.ranks[0].lenient = "code", True
    job.run(200, going=set())
    assert not job.events(StallDetected)

    job.ranks[0].lenient = False
    job.run(30, going=set())
    ((_, stall),) = job.events(StallDetected)
    assert stall.ranks == (0,)


def test_rank_0_is_silent(job):
    """Somebody else says so then, in a journal of its own."""
    job.ranks[0].mute = True
    job.run(20, going=set())
    found = job.events(StallDetected)
    assert len(found) == 1
    assert found[0][0] != 0
    assert found[0][1].ranks == (0,)


def test_store_that_is_gone(job):
    """The error is the store's; nothing is reported, and it goes on when the store is back."""
    job.store.down = True
    with pytest.raises(OSError, match="cut off"):
        job.run(30, going=set())
    job.store.down = False
    job.run(20, going=set())
    assert len(job.events(StallDetected)) == 1


def test_what_it_costs_the_store():
    """A rank that is well asks once in two seconds, rank 0 at each look."""
    job = Job(8)
    job.run(100)
    assert job.store.asked <= 7 * 51 + 200


def look(activity: str) -> Look:
    return Look(activity, f"{activity}.py", ())


def paced(fleets: list[Rank], busy: list[float], windows: int = 3) -> None:
    """Let each rank be found waiting for its share of looks, in steps of a second."""
    now = 0.0
    for number in range(windows * 60 + 1):
        now += 0.5
        for each, share in zip(reversed(fleets), reversed(busy), strict=True):
            waits = (number * 37 % 100) / 100 >= share
            passed = number % 2
            each.fleet.add(now, look("exchange" if waits else "code"), passed, judged=True)


def test_straggler():
    """The one rank that never waits is named once, by rank 0; equal ranks are not."""
    job = Job(4)
    paced(job.ranks, [0.3, 0.3, 0.95, 0.3], windows=6)
    ((rank, found),) = job.events(StragglerDetected)
    assert (rank, found.rank, found.place) == (0, 2, "code.py")
    assert found.busy_seconds == pytest.approx(0.95, abs=0.1)
    assert found.usual_seconds == pytest.approx(0.3, abs=0.1)
    assert found.step_seconds == pytest.approx(1, abs=0.1)

    even = Job(4)
    paced(even.ranks, [0.5, 0.6, 0.45, 0.5], windows=6)
    assert not even.events(StragglerDetected)
