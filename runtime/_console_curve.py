"""`Curve` keeps a series of any length in some dozens of values; `sparkline` draws them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"


class Curve:
    """A series of any length in at most `size` values: when it is full, neighbours are merged."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._share: int = 1
        self._means: list[float] = []
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        """Append a value."""
        self._sum += value
        self._count += 1
        if self._count == self._share:
            self._means.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
        if len(self._means) == self._size:
            self._means = _merged(self._means, self._size // 2)
            self._share *= 2

    def values(self) -> tuple[float, ...]:
        """Means of equal shares of the series, but for the last one, which may still be growing."""
        rest = (self._sum / self._count,) if self._count else ()
        return (*self._means, *rest)


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Draw values as a row of bars, each the mean of its share of them.

    Returns:
        At most `width` characters; a share that is not finite is drawn as `!`.
    """
    means = _merged(values, min(width, len(values)))
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    half = high / 2 - low / 2  # the whole may be more than a float holds
    tallest = len(_BARS) - 1
    return "".join(
        _BARS[round((mean / 2 - low / 2) / (half or 1.0) * tallest)] if math.isfinite(mean) else "!"
        for mean in means
    )


def _merged(values: Sequence[float], count: int) -> list[float]:
    """The means of `count` shares of the values, as equal as they can be."""
    limits = [len(values) * index // count for index in range(count + 1)] if count else []
    return [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(limits)]
