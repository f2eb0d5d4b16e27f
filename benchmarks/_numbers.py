"""Percentiles, and ratios of alternating blocks with those of equal blocks beside them."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of an ascending sequence lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Durations of single calls in microseconds."""

    p50: float
    p99: float
    p999: float
    max: float
    count: int

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> "Percentiles":
        """Summarize durations in nanoseconds."""
        ordered = sorted(nanoseconds)
        p50, p99, p999 = (quantile(ordered, share) / 1000 for share in (0.5, 0.99, 0.999))
        return cls(p50, p99, p999, ordered[-1] / 1000, len(ordered))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much more one kind of block costs than another that alternates with it.

    Attributes:
        median: Of the ratios of each block to the mean of its two neighbours.
        interval: Where that median lies with 95 % confidence.
        same: The same interval for blocks of the other kind among themselves (A/A). A ratio in
            there says nothing.
    """

    median: float
    interval: Interval
    same: Interval

    @classmethod
    def of(cls, measured: Sequence[float], base: Sequence[float]) -> "Ratio":
        """Compare blocks run as base, measured, base, ..., measured, base.

        Args:
            measured: One number per block.
            base: One number per block; one more than `measured`.
        """
        if len(base) != len(measured) + 1:
            raise ValueError(f"{len(measured)} blocks need {len(measured) + 1} around them")
        pairs = itertools.pairwise(base)
        ratios = [2 * each / sum(pair) for each, pair in zip(measured, pairs, strict=True)]
        triples = zip(base, base[1:], base[2:], strict=False)
        same = [2 * middle / (left + right) for left, middle, right in triples]
        return cls(statistics.median(ratios), _interval(ratios), _interval(same))


def _interval(ratios: Sequence[float]) -> Interval:
    """A median's 95 % interval from order statistics, which assume no distribution."""
    ordered = sorted(ratios)
    reach = 0.98 * math.sqrt(len(ordered))
    low, high = math.floor(len(ordered) / 2 - reach), math.ceil(len(ordered) / 2 + reach)
    return ordered[max(0, low)], ordered[min(len(ordered) - 1, high)]
