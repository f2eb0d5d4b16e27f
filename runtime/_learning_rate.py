"""Reads the learning rate of an optimizer, and changes it so that a schedule goes on from there."""

from typing import cast

import torch


def first_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The rate of the first parameter group; None if the scheduler keeps it on a device."""
    rate = optimizer.param_groups[0]["lr"]
    return None if isinstance(rate, torch.Tensor) else float(rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, scheduler: object, rate: float) -> None:
    """Continue with a rate; a schedule goes on from it in the same proportions.

    Args:
        optimizer: The first of its groups gets the rate, the others keep their ratio to it.
        scheduler: One of torch's whose base rates are scaled too; None or any other is left alone.
        rate: The rate, above 0.
    """
    current = first_rate(optimizer)
    factor = rate / current if current else None
    for group in optimizer.param_groups:
        group["lr"] = rate if factor is None else group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = rate if factor is None else group["initial_lr"] * factor
    bases = getattr(scheduler, "base_lrs", None)
    if isinstance(bases, list):
        known = cast("list[float]", bases)
        known[:] = [rate if factor is None else base * factor for base in known]
