"""Thin a long series to what a screen can show without losing a spike.

The series is cut at equal distances of x and, independently, at equal counts of points; every
piece keeps its lowest and its highest point. Cuts in x alone would starve a stretch where points
lie dense, cuts by count alone would starve a sparse one.
"""

from __future__ import annotations  # array is not subscriptable at run time before 3.12

import itertools
import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence

FEWEST_POINTS = 8
"""Below this there is no room for both ends and the extremes of two pieces."""


def downsample(xs: Sequence[float], ys: array[float], points: int) -> Sequence[int]:
    """Choose which points of a series to draw.

    Args:
        xs: Ascending positions, repeats allowed.
        ys: The values there; NaN and infinities are gaps.
        points: The most positions to keep, at least `FEWEST_POINTS`.

    Returns:
        The positions kept, ascending: the first, the last, the lowest and the highest finite
        value, and at least one gap wherever a piece had any.

    Raises:
        ValueError: `points` is too small, or the columns differ in length.
    """
    if points < FEWEST_POINTS:
        raise ValueError(f"a series cannot be drawn with {points} points, use {FEWEST_POINTS}")
    count = len(ys)
    if len(xs) != count:
        raise ValueError(f"{len(xs)} positions do not fit {count} values")
    if count <= points:
        return range(count)
    per_piece = 2 if math.isfinite(sum(ys)) else 3
    cuts = _cuts(xs, (points - 2) // per_piece)
    kept = [0]
    for start, end in itertools.pairwise(cuts):
        kept.extend(_extremes(ys, start, end))
    kept.append(count - 1)
    return kept


def _cuts(xs: Sequence[float], pieces: int) -> list[int]:
    """Where at most `pieces` pieces begin and end, both ends of the series left out."""
    last = len(xs) - 1
    each = max(1, (pieces + 1) // 2)
    width = (xs[-1] - xs[0]) / each
    by_count = (1 + index * (last - 1) // each for index in range(1, each))
    by_distance = (bisect_left(xs, xs[0] + index * width, 1, last) for index in range(1, each))
    return sorted({1, last, *by_count, *by_distance})


def _extremes(ys: array[float], start: int, end: int) -> list[int]:
    """The lowest, the highest and the first missing value of one piece, in order."""
    piece = ys[start:end]
    # A sum is the cheapest test for a NaN; one that overflows only takes the slower way.
    if math.isfinite(sum(piece)):
        return sorted({start + piece.index(min(piece)), start + piece.index(max(piece))})
    finite = [index for index, value in enumerate(piece, start) if math.isfinite(value)]
    missing = [index for index, value in enumerate(piece, start) if not math.isfinite(value)]
    kept = set(missing[:1])
    if finite:
        kept |= {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)}
    return sorted(kept)
