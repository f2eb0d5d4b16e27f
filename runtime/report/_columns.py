"""Put the points of a line into text that a browser unpacks fast and that stays small.

Three columns of little-endian doubles stand one after the other: first differences of the steps,
first differences of the times in milliseconds since the run's start, and the values. The bytes
are transposed (all first bytes, all second bytes, ...), deflated and written as base64: regular
steps vanish and values that came from 32 bits cost four bytes, while nothing loses precision.
"""

from __future__ import annotations  # array is not subscriptable at run time before 3.12

import base64
import itertools
import math
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence

from runtime.report._document import LineEntry, Packed
from runtime.report._downsample import FEWEST_POINTS, downsample
from runtime.report._series import Line

_DETAIL_TIMES = 10
_MOST_POINTS = 1_200_000
"""Over all lines of a page: about 8 bytes each, and what a phone can still hold."""


def levels(points: int, lines: int) -> tuple[int, int]:
    """Share a page's points between its lines: those of the overview and of the detail.

    Raises:
        ValueError: `points` is too small to draw with.
    """
    if points < FEWEST_POINTS:
        raise ValueError(f"a line cannot be drawn with {points} points, use {FEWEST_POINTS}")
    share = _MOST_POINTS // max(lines, 1)
    overview = max(FEWEST_POINTS, min(points, share))
    return overview, min(points * _DETAIL_TIMES, max(share - overview, overview))


def line_entry(line: Line, origin: float, *, overview: int, detail: int) -> LineEntry:
    """Thin and pack one line at both levels; the finer one only where it adds something."""
    entry: LineEntry = {
        "attempt": line.lineage.attempt,
        "rank": line.lineage.rank,
        "superseded": line.lineage.superseded,
        "logged": len(line.values),
        "missing": _missing(line.values),
        "steps": (line.steps[0], line.steps[-1]) if line.steps else None,
        "times": (min(line.times), max(line.times)),
        "overview": _packed(line, origin, overview),
    }
    if len(line.values) > overview and detail > overview:
        entry["detail"] = _packed(line, origin, detail)
    return entry


def _missing(values: array[float]) -> int:
    if math.isfinite(sum(values)):
        return 0
    return len(values) - sum(map(math.isfinite, values))


def _packed(line: Line, origin: float, points: int) -> Packed:
    kept = downsample(line.steps or line.times, line.values, points)
    steps = [line.steps[index] for index in kept] if line.steps else [0] * len(kept)
    times = [round((line.times[index] - origin) * 1000) for index in kept]
    columns = array("d", _differences(steps))
    columns.extend(_differences(times))
    columns.extend(line.values[index] for index in kept)
    return {"count": len(kept), "data": _deflated(columns)}


def _differences(numbers: Sequence[int]) -> Iterable[int]:
    yield numbers[0]
    yield from (after - before for before, after in itertools.pairwise(numbers))


def _deflated(columns: array[float]) -> str:
    if sys.byteorder == "big":
        columns.byteswap()
    plain = columns.tobytes()
    transposed = b"".join(plain[byte::8] for byte in range(8))
    return base64.b64encode(zlib.compress(transposed)).decode("ascii")
