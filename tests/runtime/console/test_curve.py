"""A curve of any length, and the row of bars that it becomes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime._console_curve import Curve, sparkline


class TestCurve:
    @settings(deadline=None)
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

    @settings(deadline=None)
    @given(st.lists(st.floats(), max_size=100), st.integers(1, 40))
    def test_is_never_too_wide(self, values, width):
        """Whatever was logged, the terminal's line holds."""
        assert len(sparkline(values, width=width)) == min(width, len(values))
