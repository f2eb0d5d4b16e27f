"""What the display knows, computed from events alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import Evaluated, MessageLogged, MetricsLogged
from runtime.demo import Recipe
from runtime.demo._progress import Curve, ProgressTracker, duration, sparkline

RECIPE = Recipe(steps=1000, batch_size=2, context=50)


def logged(step: int, *, time: float, loss: float = 2.0) -> MetricsLogged:
    return MetricsLogged(step=step, time=time, metrics={"loss": loss})


class TestProgressTracker:
    def test_tells_speed_and_time_left(self):
        """Ten steps a second are 1,000 tokens a second; 960 steps are left."""
        tracker = ProgressTracker(RECIPE)
        for step in range(1, 41):
            tracker.take(logged(step, time=100 + step / 10))
        assert tracker.progress.step == 40
        assert tracker.progress.tokens_per_second == pytest.approx(1000)
        assert tracker.progress.seconds_left == pytest.approx(96)

    def test_forgets_old_speed(self):
        """After ten seconds a slow beginning no longer counts."""
        tracker = ProgressTracker(RECIPE)
        tracker.take(logged(1, time=0))
        for step in range(2, 300):
            tracker.take(logged(step, time=50 + step / 10))
        assert tracker.progress.tokens_per_second == pytest.approx(1000)

    def test_promises_no_time_before_it_can(self):
        """One step says nothing about speed, nor does a clock that was set back."""
        tracker = ProgressTracker(RECIPE)
        assert tracker.progress.line() == "step 0/1,000"
        tracker.take(logged(1, time=100))
        tracker.take(logged(2, time=90))
        assert tracker.progress.tokens_per_second is None
        assert tracker.progress.line() == "step 2/1,000  loss 2.000"

    def test_says_it_in_one_line(self):
        """Step, loss, evaluation, speed, time left."""
        tracker = ProgressTracker(RECIPE)
        tracker.take(Evaluated(step=0, metrics={"eval_loss": 5.5}))
        tracker.take(logged(1, time=100))
        tracker.take(logged(11, time=101, loss=1.25))
        assert tracker.progress.line() == (
            "step 11/1,000  loss 1.250  validation 5.500 at step 0  1,000 tok/s  1:39 left"
        )

    def test_passes_over_everything_else(self):
        """Other events and other metrics change nothing."""
        tracker = ProgressTracker(RECIPE)
        before = tracker.progress
        tracker.take(MessageLogged(step=3, text="hello"))
        tracker.take(MetricsLogged(step=3, metrics={"other": 1.0}))
        assert tracker.progress is before


class TestCurve:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400))
    def test_stays_small_and_true(self, values):
        """Any length fits, every value in its place, and means stay between the extremes."""
        curve = Curve(size=8)
        for value in values:
            curve.add(value)
        means = curve.values()
        assert 1 <= len(means) <= 8
        assert min(values) - 1e-6 <= min(means) <= max(means) <= max(values) + 1e-6
        if len(values) < 8:
            assert means == pytest.approx(values)

    def test_merges_neighbours(self):
        """Full with eight, it goes on with four means of two."""
        curve = Curve(size=8)
        for value in range(9):
            curve.add(float(value))
        assert curve.values() == (0.5, 2.5, 4.5, 6.5, 8.0)


class TestSparkline:
    def test_falls_as_the_loss_does(self):
        """From the highest bar to the lowest."""
        assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], width=8) == "█▇▆▅▄▃▂▁"

    @pytest.mark.parametrize(
        ("values", "drawn"),
        [([], ""), ([3.0, 3.0], "▁▁"), ([1.0, math.nan, 2.0], "▁!█"), ([math.inf], "!")],
    )
    def test_edges(self, values, drawn):
        """Nothing, no range, no number."""
        assert sparkline(values, width=8) == drawn

    @given(st.lists(st.floats(), max_size=100), st.integers(1, 40))
    def test_is_never_too_wide(self, values, width):
        """Whatever was logged, the terminal's line holds."""
        assert len(sparkline(values, width=width)) == min(width, len(values))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_duration(seconds, text):
    """Minutes and seconds, hours where there are any."""
    assert duration(seconds) == text
