"""When a safe point counts as late, decided on a virtual clock."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime._watchdog_lateness import ASKS, REPORTS, Judge, Lateness, Seen, quantile

LOOKS = 20


class Loop:
    """A training on a virtual clock, and the watchdog's looks at it."""

    def __init__(self, floor: float = 10.0):
        self.judge = Judge(floor)
        self.now = 0.0
        self.passed = 0
        self.phases = 0
        self.between = floor / LOOKS
        self.next_look = 0.0
        self.reported: list[float] = []
        self.ended: list[float] = []
        self.last = Lateness(0.0, math.inf)

    def spend(self, seconds: float, *, judged: bool = True) -> None:
        """Let time go by, with the looks that fall into it."""
        until = self.now + seconds
        while self.next_look <= until:
            seen = Seen(self.next_look, self.passed, self.phases, judged=judged)
            lateness = self.judge.look(seen)
            if lateness.reports and not self.last.reports:
                self.reported.append(self.next_look)
            if lateness.ended:
                self.ended.append(lateness.ended)
            self.last = lateness
            self.next_look += self.between
        self.now = until

    def step(self, seconds: float) -> None:
        """Take a step, and pass a safe point at its end."""
        self.spend(seconds)
        self.passed += 1

    def lenient(self, seconds: float) -> None:
        """Be in a phase that may take any time."""
        self.phases += 1
        self.spend(seconds, judged=False)
        self.phases += 1


durations = st.floats(0.01, 8)


@settings(max_examples=25, deadline=None)
@given(usual=durations, seed=st.integers(0, 2**32), floor=st.sampled_from([1.0, 10.0]))
def test_a_stall_is_due_within_the_bound(usual, seed, floor):
    """Whatever steps take, a stall is reported before max(3 x p99 step time, the floor)."""
    random = Random(seed)  # noqa: S311 - no secret
    loop = Loop(floor)
    taken = [usual * random.uniform(0.7, 1.3) for _ in range(120)]
    for duration in taken:
        loop.step(duration)
    assert not loop.reported
    began = loop.now
    p99 = sorted(taken)[math.ceil(0.99 * len(taken)) - 1]
    bound = max(3 * p99, floor)
    loop.spend(2 * bound)

    assert len(loop.reported) == 1
    # Looks tell a step's end to within the time between two.
    assert loop.reported[0] - began <= bound + 3 * loop.between
    assert loop.reported[0] - began >= 0.8 * max(3 * usual * 0.7, floor)


@settings(max_examples=15, deadline=None)
@given(usual=st.floats(0.5, 5), seed=st.integers(0, 2**32))
def test_an_hour_without_a_false_alarm(usual, seed):
    """Jittered steps, a slow first one, recompilation, evaluations, saves: nothing is reported."""
    random = Random(seed)  # noqa: S311 - no secret
    loop = Loop()
    loop.step(300)  # the first one, before anything is known
    while loop.now < 3600:
        for _ in range(random.randrange(1, 200)):
            loop.step(usual * random.lognormvariate(0, 0.25))
        loop.spend(random.uniform(0, usual))
        loop.lenient(random.choice([0.01, 1.0, 30.0, 200.0]))

    assert loop.reported == []
    assert loop.ended == []


def test_the_end_of_a_stall():
    """Once, with the time from the last safe point to the next."""
    loop = Loop()
    for _ in range(50):
        loop.step(0.1)
    loop.step(60)
    for _ in range(50):
        loop.step(0.1)

    assert len(loop.reported) == 1
    (lasted,) = loop.ended
    assert 59 <= lasted <= 61


def test_not_before_steps_are_known():
    """A first step that never ends, or the first few, may warm up; nothing is late yet."""
    loop = Loop()
    loop.spend(4000)
    loop.step(100)
    loop.step(100)

    assert loop.last.limit == math.inf
    assert not loop.reported


def test_slow_steps_raise_the_limit():
    """Steps of 20 seconds are not late at 50."""
    loop = Loop()
    for _ in range(10):
        loop.step(20)
    loop.step(50)
    assert not loop.reported
    loop.spend(160)  # which one step in eleven has taken now
    assert loop.reported


def test_a_hiccup_among_a_thousand_steps():
    """What fewer than one step in a hundred take changes no limit."""
    loop = Loop()
    for _ in range(500):
        loop.step(1)
    loop.step(8)
    loop.step(1)
    loop.spend(20)
    assert len(loop.reported) == 1


def test_asks_before_it_reports():
    """Other ranks have time to answer."""
    lateness = Lateness(silent=ASKS * 10, limit=10)
    assert lateness.asks
    assert not lateness.reports
    assert Lateness(silent=REPORTS * 10, limit=10).reports


def test_quantile():
    """Durations count as often as there were steps."""
    assert quantile([(1.0, 99), (50.0, 1)], 0.99) == 1.0
    assert quantile([(1.0, 90), (50.0, 10)], 0.99) == 50.0
    assert quantile([], 0.99) == 0.0
