"""The band in which a few scalars have moved lately, kept on their device without a read.

Mean and variance are exponentially weighted, as T. Finch has them ("Incremental calculation of
weighted mean and variance", University of Cambridge, 2009, section 9), here for k values at a time
that weigh alike: with `w` the weight of what was before and `d` the distances of the k from `mean`,

    w = (1 - 1/window)^k, or n / (n + k) for the n values of the first `window`
    shift = (1 - w) average(d)
    mean <- mean + shift
    variance <- w variance + (1 - w) average(d d) - shift shift

A value's score is its `d` by the standard deviation before it; a hundredth of the mean is added to
that, as squares, so that a loss which hardly moves is not found to jump. A value beyond the band
moves it as one on its edge would, and one that is not finite as its mean would: what is looked for
must not hide what comes after it, yet a new level becomes the usual one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

_LEAST: Final = 0.01
"""The smallest deviation that counts as one, as a share of the mean."""

_MEAN: Final = "mean"
_VARIANCE: Final = "variance"
_COUNT: Final = "count"


@dataclass(frozen=True, slots=True)
class Farthest:
    """Of some steps' values the farthest up; tensors of float32 of shape (scalars,), on the device.

    Attributes:
        value: What it was; the first that is not finite if there is one.
        score: Standard deviations above the mean; infinite for what is not finite.
        place: Which of the steps it was in, from 0.
    """

    value: torch.Tensor
    score: torch.Tensor
    place: torch.Tensor


class LossBand:
    """Scores values of some scalars by those before them.

    Args:
        window: Values over which mean and variance are taken; the first so many are only learnt
            from.
        threshold: Deviations from the mean to the edge of the band.
    """

    def __init__(self, *, window: int, threshold: float) -> None:
        self._window = window
        self._threshold = threshold
        self._count = 0
        self._mean: torch.Tensor | None = None
        self._variance: torch.Tensor | None = None

    @property
    def is_learning(self) -> bool:
        """Whether the scores of the values that come next mean nothing yet."""
        return self._count < self._window

    def add(self, values: torch.Tensor) -> Farthest:
        """Score the values of some steps, then learn from them; waits for nothing.

        Args:
            values: Float32, of shape (steps, scalars), with the same scalars each time.
        """
        if self._mean is None or self._variance is None:
            self._mean, self._variance = torch.zeros_like(values[0]), torch.zeros_like(values[0])
        mean, variance = self._mean, self._variance
        off = values - mean
        deviation = torch.addcmul(variance, mean, mean, value=_LEAST**2).clamp_min_(1e-24).sqrt_()
        scores = off / deviation
        if self.is_learning:
            kept = torch.nan_to_num(off, 0.0, 0.0, 0.0)
        else:
            kept = torch.nan_to_num(scores, 0.0, 0.0, 0.0)
            kept.clamp_(-self._threshold, self._threshold).mul_(deviation)
        before = self._weight_of_past(len(values))
        shift = kept.mean(0).mul_(1 - before)
        mean.add_(shift)
        variance.mul_(before).add_(kept.square_().mean(0), alpha=1 - before)
        variance.addcmul_(shift, shift, value=-1)
        # Of several that are not finite `argmax` takes the first. `max` would give the score too,
        # but starts a thread pool on a CPU, however small the tensor.
        scores = torch.nan_to_num(scores, torch.inf, torch.inf, torch.inf)
        place = scores.argmax(0, keepdim=True)
        value, score = values.gather(0, place), scores.gather(0, place)
        # All of one type, so that they leave the device in one copy.
        return Farthest(value.squeeze(0), score.squeeze(0), place.squeeze(0).float())

    def _weight_of_past(self, steps: int) -> float:
        past, self._count = self._count, self._count + steps
        return past / self._count if past < self._window else (1 - 1 / self._window) ** steps

    def state_dict(self) -> dict[str, object]:
        """What it has learnt, on the device; nothing changes it later."""
        if self._mean is None or self._variance is None:
            return {}
        mean, variance = self._mean.clone(), self._variance.clone()
        return {_COUNT: self._count, _MEAN: mean, _VARIANCE: variance}

    def load_state_dict(self, state: Mapping[str, object], device: torch.device | None) -> None:
        """Go on from what `state_dict` gave; with anything else, learn anew."""
        count, mean, variance = (state.get(name) for name in (_COUNT, _MEAN, _VARIANCE))
        self._count, self._mean, self._variance = 0, None, None
        if not isinstance(count, int):
            return
        if isinstance(mean, torch.Tensor) and isinstance(variance, torch.Tensor):
            self._count = count
            self._mean = mean.to(device, copy=True)
            self._variance = variance.to(device, copy=True)
