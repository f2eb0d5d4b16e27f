import itertools
import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.report._downsample import FEWEST_POINTS, downsample

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANY = st.floats()
BOUND = st.integers(FEWEST_POINTS, 60)


def positions_of(data: st.DataObject, count: int) -> list[float]:
    """Ascending positions with repeats and pauses."""
    pauses = data.draw(
        st.lists(st.sampled_from([0, 1, 1, 1, 50_000]), min_size=count, max_size=count)
    )
    return list(itertools.accumulate(pauses))


@given(st.data(), st.lists(ANY, max_size=400), BOUND)
def test_keeps_order_both_ends_and_the_bound(data, values, points):
    """Whatever the values: positions ascend without repeats, both ends stay, never too many."""
    kept = downsample(positions_of(data, len(values)), array("d", values), points)

    assert len(kept) <= points
    assert all(before < after for before, after in itertools.pairwise(kept))
    if values:
        assert (kept[0], kept[-1]) == (0, len(values) - 1)


@given(st.data(), st.lists(ANY, min_size=1, max_size=400), BOUND)
def test_keeps_the_lowest_and_the_highest_finite_value(data, values, points):
    """No spike is lost, not even between NaNs and infinities."""
    kept = downsample(positions_of(data, len(values)), array("d", values), points)

    finite = [value for value in values if math.isfinite(value)]
    drawn = [values[index] for index in kept if math.isfinite(values[index])]
    if finite:
        assert (min(drawn), max(drawn)) == (min(finite), max(finite))


@given(st.lists(FINITE, max_size=60), st.integers(60, 100))
def test_a_short_series_stays_whole(values, points):
    """What fits is not thinned."""
    assert list(downsample(range(len(values)), array("d", values), points)) == [*range(len(values))]


@given(st.integers(0, 999), st.sampled_from([math.nan, math.inf, -math.inf]), BOUND)
def test_a_single_missing_value_stays_a_gap(position, missing, points):
    """One NaN among a thousand values is still seen."""
    values = array("d", [1.0]) * 1000
    values[position] = missing

    kept = downsample(range(1000), values, points)

    assert position in kept


def test_neither_a_dense_nor_a_sparse_stretch_starves():
    """A thousand points within one second and a thousand over a day both keep their shape."""
    xs = [index / 1000 for index in range(1000)] + [1 + 86.4 * index for index in range(1000)]
    ys = array("d", (math.sin(index / 20) for index in range(2000)))

    kept = downsample(xs, ys, 200)

    assert min(sum(index < 1000 for index in kept), sum(index >= 1000 for index in kept)) > 40


def test_refuses_what_cannot_be_drawn():
    """Too few points and columns of different lengths are the caller's mistake."""
    with pytest.raises(ValueError, match="7 points"):
        downsample([1.0], array("d", [1.0]), FEWEST_POINTS - 1)
    with pytest.raises(ValueError, match="2 positions do not fit 1 values"):
        downsample([1.0, 2.0], array("d", [1.0]), 100)
