"""What counts as late: only what happens inside the loop that passes safe points."""

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bus import Bus
from runtime._watchdog_lateness import Judge
from runtime._watchdog_view import Phases, View

LONG = 20.0
"""Seconds that no step takes."""


class Watched:
    """A training thread that is looked at between its safe points, at times that are made up."""

    def __init__(self) -> None:
        self.bus = Bus(None)
        self.phases = Phases()
        self.view = View(self.bus.control, self.phases)
        self.now = 0.0

    def safe_point(self, step: int) -> None:
        self.bus.control.safe_point(step)

    def judged(self) -> bool:
        self.now += 1
        return self.view.look(self.now, lambda seconds: seconds > LONG).judged


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Whatever a test does with it."""
    watched = Watched()
    yield watched
    watched.bus.close(5)


def after_step(watched: Watched, step: int) -> None:
    """Safe points are often passed in a function of their own."""
    watched.safe_point(step)


def forward(watched: Watched) -> bool:
    """Where most of a step is spent."""
    return watched.judged()


def train(watched: Watched, steps: int = 10) -> None:
    for step in range(steps):
        assert forward(watched) or step < 2
        after_step(watched, step)
        assert watched.judged() or step < 2
    with watched.phases.begin("evaluation"):
        assert not watched.judged()
    assert watched.judged()
    assert forward(watched)


def test_inside_and_outside_the_loop(watched):
    """Everything inside the loop's function is judged, phases apart; what comes behind is not."""
    train(watched)
    assert not watched.judged()


def test_right_behind_the_loop(watched):
    """Nor if no look was taken between the last safe point and the function's end."""

    def quickly() -> None:
        for step in range(10):
            watched.judged()
            watched.safe_point(step)

    quickly()
    for _ in range(100):
        assert not watched.judged()


def epoch(watched: Watched) -> list[bool]:
    """A loop in a function of its own, in a loop over epochs."""
    judged: list[bool] = []
    for step in range(10):
        judged.append(watched.judged())
        watched.safe_point(step)
    return judged


@pytest.mark.parametrize(("looks", "judged_later"), [(5, True), (50, False)])
def test_between_epochs(watched, looks, judged_later):
    """What comes between epochs is due as steps are if it takes no longer than they do."""
    for number in range(4):
        found = epoch(watched)
        assert all(found[2:])
        for _ in range(looks):
            assert watched.judged() == (judged_later and number > 0)


def test_long_steps(watched):
    """While it is not known how long steps take, none is too long to learn from."""
    judge = Judge(floor=1.0)
    judged: list[bool] = []

    def slow() -> None:
        for step in range(10):
            for _ in range(100):
                watched.now += 1
                seen = watched.view.look(watched.now, judge.is_long)
                judge.look(seen)
                judged.append(seen.judged)
            watched.safe_point(step)

    slow()
    assert all(judged[200:])
    assert judge.is_long(300)
    assert not judge.is_long(200)


def test_another_loop(watched):
    """Who passes safe points is found out anew from time to time, and judged all the while."""
    train(watched, 200)

    def another() -> None:
        for step in range(500):
            after_step(watched, step)
            assert watched.judged() or step < 2
        assert watched.judged()

    another()
    assert not watched.judged()


def test_another_thread(watched):
    """Whichever thread passes safe points is the one that is looked at."""
    train(watched)
    found: list[bool] = []

    def elsewhere() -> None:
        for step in range(300):
            watched.safe_point(step)
            found.append(watched.judged())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[-1]
    assert watched.view.thread == thread.ident


def test_phases_nest():
    """The one that failed innermost is remembered; outside of it the one before goes on."""
    phases = Phases("a")
    empty: list[int] = []
    with suppress(IndexError), phases.begin("b", lenient=False), phases.begin("c"):
        assert (phases.name, phases.lenient) == ("c", True)
        empty.pop()
    assert (phases.name, phases.lenient, phases.failed_in) == ("a", False, "c")
    assert phases.changes == 4
