"""What counts as late: only what happens inside the loop that passes safe points."""

from contextlib import suppress

from bus import Bus, Control
from runtime._watchdog_view import Phases, View


class Watched:
    """A training thread that is looked at between its safe points, at times that are made up."""

    def __init__(self):
        self.bus = Bus(None)
        self.phases = Phases()
        self.view = View(self.bus.control, self.phases)
        self.now = 0.0

    @property
    def control(self) -> Control:
        return self.bus.control

    def judged(self) -> bool:
        self.now += 1
        return self.view.look(self.now).judged


def after_step(watched: Watched, step: int) -> None:
    """Safe points are often passed in a function of their own."""
    watched.control.safe_point(step)


def forward(watched: Watched) -> bool:
    """Where most of a step is spent."""
    return watched.judged()


def train(watched: Watched, steps: int = 10) -> None:
    for step in range(steps):
        assert forward(watched)
        after_step(watched, step)
        assert watched.judged()
    with watched.phases.begin("evaluation"):
        assert not watched.judged()
    assert watched.judged()
    assert forward(watched)


def test_inside_and_outside_the_loop():
    """Everything inside the loop's function is judged, phases apart; what comes behind is not."""
    watched = Watched()
    for _ in range(3):
        train(watched)
        assert not watched.judged()
    watched.bus.close(5)


def test_another_loop():
    """Who passes safe points is found out anew from time to time."""
    watched = Watched()
    train(watched, 200)

    def another() -> None:
        for step in range(250):
            after_step(watched, step)
            watched.judged()
        assert watched.judged()

    another()
    assert not watched.judged()
    watched.bus.close(5)


def test_phases_nest():
    """The one that failed innermost is remembered; outside of it the one before goes on."""
    phases = Phases("a")
    empty: list[int] = []
    with suppress(IndexError), phases.begin("b", lenient=False), phases.begin("c"):
        assert (phases.name, phases.lenient) == ("c", True)
        empty.pop()
    assert (phases.name, phases.lenient, phases.failed_in) == ("a", False, "c")
    assert phases.changes == 4
