"""Step leases: what any rank asks for takes effect on all ranks at one tick, without waiting."""

import threading
import time
from random import Random

import pytest

from bus import RanksError
from bus._leases import PHASE, Decided, Leases


class MemoryStore:
    """A store in this process; can be cut off, and can lose the answer of what it did."""

    def __init__(self):
        self.data: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.down = False
        self.lose_answers = 0

    def _answer(self):
        if self.down:
            raise OSError("cut off")

    def get(self, key):
        self._answer()
        return self.data.get(key)

    def set(self, key, value):
        self._answer()
        self.data[key] = value

    def compare_set(self, key, expected, desired):
        self._answer()
        with self.lock:
            if self.data.get(key, b"") == expected:
                self.data[key] = desired
            held = self.data[key]
        if self.lose_answers:
            self.lose_answers -= 1
            raise OSError("the answer was lost")
        return held


def walk(leases: Leases, ticks: int) -> list[tuple[int, Decided]]:
    """Pass safe points; tell what took effect, and where."""
    found: list[tuple[int, Decided]] = []
    for _ in range(ticks):
        if not leases.passes():
            found += [(leases.tick, each) for each in leases.due()]
    return found


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def ranks(store):
    return [Leases(store, rank=rank, patience=0.5) for rank in range(3)]


def test_nothing_asked(ranks):
    """Ranks pass on their own: nobody waits for one that has not even begun."""
    assert walk(ranks[0], 1000) == []
    assert walk(ranks[1], 10) == []


def test_one_asks(ranks):
    """It takes effect on every rank at the same tick, once, with its number and its asker."""
    walk(ranks[0], 5)
    ranks[1].propose(7, {"type": "stop"})
    ranks[1].extend()
    found = [walk(leases, 600) for leases in ranks]

    assert found[0] == found[1] == found[2]
    ((tick, decided),) = found[0]
    assert tick >= 5
    assert (decided.rank, decided.number, decided.request) == (1, 7, {"type": "stop"})


def test_whoever_is_ahead_is_never_overtaken_by_a_decision(ranks):
    """What is decided lies beyond every tick that any rank has passed."""
    walk(ranks[2], 500)
    ranks[0].propose(1, "save")
    ranks[0].extend()
    late = walk(ranks[0], 1000)

    assert late[0][0] > 500
    assert walk(ranks[2], 500) == late


def test_a_lost_answer_decides_nothing_twice(store, ranks):
    """An exchange that went through though it seemed to fail is recognised."""
    walk(ranks[0], 3)
    ranks[0].propose(1, "save")
    store.lose_answers = 1
    ranks[0].extend()
    ranks[0].extend()
    first = walk(ranks[0], 300)

    assert [each.request for _, each in first] == ["save"]
    assert walk(ranks[1], 303) == first


def test_phases(ranks):
    """A new phase is not covered by what was granted in the old one, fast as that may have been."""
    walk(ranks[0], 1000)
    ranks[0].begin_phase()
    walk(ranks[0], 1)
    assert ranks[0].tick == PHASE + 1
    ranks[0].propose(1, "stop")
    ranks[0].extend()
    found = walk(ranks[0], 300)

    assert PHASE < found[0][0] < PHASE + 150
    for _ in range(2):
        walk(ranks[1], 500)
    ranks[1].begin_phase()
    assert walk(ranks[1], 301) == found


def test_no_answer(store, ranks):
    """A rank goes to the end of its lease and then fails, saying what is missing."""
    walk(ranks[0], 10)
    store.down = True
    with pytest.raises(RanksError, match=r"rank 0 cannot go on: .* for 0\.5 s \(cut off\)"):
        walk(ranks[0], 1000)


def test_an_outage_that_ends(store):
    """Whoever waits at the end of its lease goes on as soon as the store answers."""
    leases = Leases(store, rank=0, patience=60)
    walk(leases, 10)
    store.down = True
    done = threading.Event()

    def go():
        walk(leases, 1000)
        done.set()

    thread = threading.Thread(target=go)
    thread.start()
    assert not done.wait(0.05)
    store.down = False
    thread.join(30)
    assert done.is_set()


def test_at_different_steps(ranks):
    """Ranks that count differently are told so instead of hanging."""
    walk(ranks[0], 5)
    ranks[0].confirm(5)
    walk(ranks[1], 5)
    ranks[1].confirm(5)
    walk(ranks[2], 5)
    with pytest.raises(RanksError, match="rank 2 is at step 6 where another rank was at step 5"):
        ranks[2].confirm(6)


def test_a_rank_that_fails(ranks):
    """The others fail with the words of the first that did, at their next exchange."""
    walk(ranks[0], 5)
    assert ranks[1].fail("ValueError: no") == "rank 1: ValueError: no"
    assert ranks[2].fail("the connection was closed") == "rank 1: ValueError: no"
    ranks[0].propose(1, "save")
    ranks[0].extend()
    with pytest.raises(RanksError, match="rank 1: ValueError: no"):
        walk(ranks[0], 1)


def test_the_words_outlive_the_store(store, ranks):
    """Who has heard of a failure keeps its words; who has not knows none."""
    assert ranks[1].fail("ValueError: no") == "rank 1: ValueError: no"
    assert not ranks[1].has_heard(0)
    ranks[0].extend()  # as the writer thread does, though the training thread sits in a collective
    assert ranks[1].has_heard(0)
    store.down = True

    assert ranks[0].fail("the connection was closed") == "rank 1: ValueError: no"
    assert ranks[2].fail("the connection was closed") is None


def test_what_was_decided_before_the_first_failure(ranks):
    """A rank that fails is told what was decided for ticks that nobody has come to."""
    walk(ranks[0], 3)
    ranks[1].propose(1, "leave")
    ranks[1].extend()
    ranks[0].fail("the connection was closed")
    ranks[2].propose(1, "too late")

    for rank in ranks:
        assert [each.request for each in rank.take_ahead()] == ["leave"]
        assert rank.take_ahead() == []


def test_what_was_asked_where_nobody_answers(store, ranks):
    """Without the store a rank that fails knows of what it has asked for itself."""
    walk(ranks[0], 3)
    store.down = True
    ranks[0].propose(1, "leave")

    assert [each.request for each in ranks[0].take_ahead()] == ["leave"]


def test_telling(ranks):
    """What one rank says, the others hear; nothing said in time is an error."""
    heard = []
    thread = threading.Thread(target=lambda: heard.append(ranks[1].hear("run", 30)))
    thread.start()
    ranks[0].tell("run", {"attempt": 1})
    thread.join(30)

    assert heard == [{"attempt": 1}]
    with pytest.raises(RanksError, match=r"rank 2 has waited 0\.01 s for rank 0 to say 'verdict'"):
        ranks[2].hear("verdict", 0.01)


class Simulation:
    """Ranks as threads: each trains at its own speed; half of them have no writer thread."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - no secret
        self.size, self.ticks = self.random.randint(2, 4), self.random.randint(150, 400)
        store = MemoryStore()
        self.ranks = [
            Leases(store, rank=rank, ahead=self.random.choice([0.001, 0.003, 0.01]))
            for rank in range(self.size)
        ]
        self.found: list[list[tuple[int, Decided]]] = [[] for _ in self.ranks]
        self.asked: set[tuple[int, int]] = set()
        self.over = threading.Event()

    def chance(self) -> Random:
        return Random(self.random.random())  # noqa: S311 - no secret

    def train(self, leases: Leases, mine: Random) -> None:
        pause = mine.random()
        for tick in range(self.ticks):
            if tick % 90 == 89:
                leases.begin_phase()
            self.found[leases.rank] += walk(leases, 1)
            if mine.random() < pause:
                time.sleep(mine.random() * 0.002)

    def ask(self, leases: Leases, mine: Random) -> None:
        has_writer = mine.random() < 0.5
        number = 0
        while not self.over.wait(mine.random() * 0.005):
            number += 1
            self.asked.add((leases.rank, number))
            leases.propose(number, number)
            if has_writer:
                leases.extend()

    def run(self) -> None:
        self.asked.add((0, 0))  # so that there is one, however soon training is over
        self.ranks[0].propose(0, 0)
        jobs = [
            [threading.Thread(target=job, args=(leases, self.chance())) for leases in self.ranks]
            for job in (self.train, self.ask)
        ]
        for thread in jobs[0] + jobs[1]:
            thread.start()
        for thread in jobs[0]:
            thread.join()
        self.over.set()
        for thread in jobs[1]:
            thread.join()


@pytest.mark.parametrize("seed", range(12))
def test_at_random(seed):
    """Threads at their own speeds, some without a writer, ask at any moment: all act alike."""
    simulation = Simulation(seed)
    simulation.run()
    first = simulation.found[0]
    decided = [(each.rank, each.number) for _, each in first]

    assert decided
    assert all(found == first for found in simulation.found)
    assert len(decided) == len(set(decided))
    assert set(decided) <= simulation.asked
