"""Sums the losses of micro-batches between two log entries without reading one on the host.

A step appends a tensor to a list and does nothing else; the arithmetic happens on the device when
the sum is asked for, or when the list has become long.
"""

from collections.abc import Mapping
from typing import Final, cast

import torch

_FOLD_AT: Final = 64
"""Losses kept apart at most; each holds a block of device memory."""

_FOLDED: Final = "folded"
_APART: Final = "apart"
_STEPS: Final = "steps"


class LossSum:
    """The sum of losses since it was last taken, with the non-finite ones filtered if so wanted.

    With the filter a loss that is NaN or infinite counts as the mean so far, as in Transformers:
    the sum `s` becomes `s + s / (1 + d)`, `d` being the optimizer steps since the last entry.
    Without it such a loss makes the sum non-finite, once: taking the sum starts a new one.

    Args:
        filtered: Whether non-finite losses are replaced.
    """

    def __init__(self, *, filtered: bool) -> None:
        self._filtered = filtered
        self._losses: list[torch.Tensor] = []
        self._steps: list[int] = []
        self._folded: torch.Tensor | None = None

    def add(self, loss: torch.Tensor, steps: int) -> None:
        """Add a micro-batch's loss.

        Args:
            loss: A detached tensor of one element.
            steps: Optimizer steps completed since the sum was last taken.
        """
        self._losses.append(loss)
        self._steps.append(steps)
        if len(self._losses) >= _FOLD_AT:
            self._fold()

    def state(self) -> dict[str, object]:
        """What a checkpoint keeps; the losses stay apart, or their sum would round otherwise."""
        losses = self._losses
        apart = torch.stack([each.reshape(()) for each in losses]) if losses else None
        return {_FOLDED: self._folded, _APART: apart, _STEPS: list(self._steps)}

    def restore(self, kept: Mapping[str, object], device: torch.device) -> None:
        """Go on from what `state` gave, wherever that is now."""
        folded, apart, steps = (kept.get(name) for name in (_FOLDED, _APART, _STEPS))
        if isinstance(folded, torch.Tensor):
            self._folded = folded.to(device)
        if isinstance(apart, torch.Tensor) and isinstance(steps, list):
            self._losses = list(apart.to(device).unbind())
            self._steps = [*cast("list[int]", steps)]

    def peek(self) -> torch.Tensor | None:
        """The sum so far, on the losses' device; None if there was none."""
        if self._losses:
            self._fold()
        return self._folded

    def take(self) -> torch.Tensor | None:
        """The sum so far, and begin a new one."""
        total, self._folded = self.peek(), None
        return total

    def _fold(self) -> None:
        losses, steps = self._losses, self._steps
        self._losses, self._steps = [], []
        if len(losses) == 1 and self._folded is None:
            loss = losses[0] if losses[0].dim() == 0 else losses[0].reshape(())
            self._folded = torch.nan_to_num(loss, 0.0, 0.0, 0.0) if self._filtered else loss
            return
        stacked = torch.stack([each.reshape(()).float() for each in losses])
        before = stacked.new_zeros(()) if self._folded is None else self._folded
        if self._filtered:
            self._folded = _filtered(before, stacked, steps)
        else:
            self._folded = before + stacked.sum()


def _filtered(before: torch.Tensor, losses: torch.Tensor, steps: list[int]) -> torch.Tensor:
    """Replay the filter over several losses at once.

    Each loss maps the sum `s` to `a * s + b`: a finite one with a = 1 and b the loss, another with
    a = 1 + 1 / (1 + d) and b = 0. So the end is `before * prod(a)` plus each b times the product
    of the a behind it.
    """
    finite = torch.isfinite(losses)
    # One transfer towards the device, which nobody waits for.
    growth = torch.tensor([1 + 1 / (1 + step) for step in steps], dtype=losses.dtype)
    growth = growth.to(losses.device, non_blocking=True)
    factors = torch.where(finite, 1.0, growth)
    behind = torch.flip(torch.cumprod(torch.flip(factors, (0,)), 0), (0,))
    after_each = torch.cat([behind[1:], behind.new_ones(1)])
    kept = torch.where(finite, losses, 0.0)
    return before * behind[0] + (kept * after_each).sum()
