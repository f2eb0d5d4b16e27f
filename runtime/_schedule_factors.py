"""What share of the learning rate each schedule gives to each step, to the last bit as upstream.

A builder takes the initial learning rate, the steps of warmup and of the training, and the
schedule's own options, and returns the function from a step to its factor. Those functions are
`functools.partial` objects, as upstream's are: torch stores a schedule's `__dict__` in its state,
which is then empty on both sides. The operations stand in upstream's order, because another one
rounds differently. Every schedule but the constant one rises from 0 during the warmup.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

from pydantic import NonNegativeInt, PositiveInt, validate_call

Factor: TypeAlias = Callable[[int], float]
Shape: TypeAlias = Literal["linear", "cosine", "1-sqrt"]


@validate_call
def constant(base: float, warmup: int, total: int, /) -> Factor:  # noqa: ARG001 - one signature
    """The learning rate as it is, without a warmup."""
    return _always


@validate_call
def constant_with_warmup(base: float, warmup: int, total: int, /) -> Factor:  # noqa: ARG001 - one signature
    """The learning rate as it is after the warmup."""
    return partial(_constant_with_warmup, warmup=warmup)


@validate_call
def linear(base: float, warmup: int, total: int, /) -> Factor:  # noqa: ARG001 - one signature
    """A straight line down to 0 at the last step."""
    return partial(_linear, warmup=warmup, total=total)


@validate_call
def cosine(base: float, warmup: int, total: int, /, *, num_cycles: float = 0.5) -> Factor:  # noqa: ARG001 - one signature
    """`num_cycles` waves of a cosine; a half goes from 1 to 0 (Loshchilov & Hutter 2016)."""
    return partial(_cosine, warmup=warmup, total=total, cycles=num_cycles, floor=0.0)


@validate_call
def cosine_with_restarts(
    base: float,  # noqa: ARG001 - one signature
    warmup: int,
    total: int,
    /,
    *,
    num_cycles: float = 1,
) -> Factor:
    """`num_cycles` half waves of a cosine, each starting at 1 again."""
    return partial(_restarting, warmup=warmup, total=total, cycles=num_cycles)


@validate_call
def cosine_with_min_lr(
    base: float,
    warmup: int,
    total: int,
    /,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Factor:
    """A cosine that ends at a learning rate, or at a share of the initial one."""
    floor = _floor(base, min_lr, min_lr_rate)
    return partial(_cosine, warmup=warmup, total=total, cycles=num_cycles, floor=floor)


@validate_call
def cosine_warmup_with_min_lr(
    base: float,
    warmup: int,
    total: int,
    /,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Factor:
    """As `cosine_with_min_lr`, but the first step has more than 0, and the last one the minimum."""
    return partial(
        _early_cosine,
        warmup=warmup,
        total=total,
        cycles=num_cycles,
        floor=_floor(base, min_lr, min_lr_rate),
        start=warmup_lr_rate,
    )


@validate_call
def polynomial(
    base: float, warmup: int, total: int, /, *, lr_end: float = 1e-7, power: float = 1.0
) -> Factor:
    """A power of the steps left, down to the learning rate `lr_end`."""
    if not base > lr_end:
        raise ValueError(
            f"lr_end={lr_end} must be below the initial learning rate, which is {base}"
        )
    return partial(_polynomial, warmup=warmup, total=total, end=lr_end, power=power, base=base)


@validate_call
def inverse_sqrt(
    base: float,  # noqa: ARG001 - one signature
    warmup: int,
    total: int,  # noqa: ARG001 - one signature
    /,
    *,
    timescale: PositiveInt | None = None,
) -> Factor:
    """One over the square root of the step (Vaswani et al. 2017), scaled to 1 after the warmup.

    `timescale` steps after that point the factor is 1/sqrt(2); it is the warmup's length, or 10,000
    if there is none.
    """
    return partial(_inverse_sqrt, warmup=warmup, timescale=timescale or warmup or 10_000)


@validate_call
def warmup_stable_decay(
    base: float,  # noqa: ARG001 - one signature
    warmup: int,
    total: int,
    /,
    *,
    num_decay_steps: NonNegativeInt,
    num_stable_steps: NonNegativeInt | None = None,
    warmup_type: Shape = "linear",
    decay_type: Shape = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
) -> Factor:
    """Up, level, down (Hu et al. 2024); level for what is left, unless `num_stable_steps` says."""
    level = total - warmup - num_decay_steps if num_stable_steps is None else num_stable_steps
    return partial(
        _stages,
        rise_end=warmup,
        level_end=warmup + level,
        decay=num_decay_steps,
        shapes=(warmup_type, decay_type),
        floor=min_lr_ratio,
        cycles=num_cycles,
    )


def _floor(base: float, rate: float | None, share: float | None) -> float:
    if rate is not None and share is not None:
        raise ValueError(f"min_lr={rate} and min_lr_rate={share} both say where to end; give one")
    if rate is not None:
        return rate / base
    if share is None:
        raise ValueError("min_lr (a learning rate) or min_lr_rate (a share of it) is needed")
    return share


def _always(step: int) -> float:  # noqa: ARG001 - torch passes it
    return 1


def _constant_with_warmup(step: int, *, warmup: int) -> float:
    return step / max(1, warmup) if step < warmup else 1.0


def _linear(step: int, *, warmup: int, total: int) -> float:
    if step < warmup:
        return step / max(1, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def _cosine(step: int, *, warmup: int, total: int, cycles: float, floor: float) -> float:
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    factor = 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))
    return max(0.0, factor * (1 - floor) + floor)


def _restarting(step: int, *, warmup: int, total: int, cycles: float) -> float:
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0))))


def _early_cosine(
    step: int, *, warmup: int, total: int, cycles: float, floor: float, start: float | None
) -> float:
    if step < warmup:
        if start is None:
            return (step + 1.0) / max(1.0, warmup)
        return start + (1.0 - start) * step / max(1, warmup - 1)
    progress = (step - warmup + 1.0) / max(1.0, total - warmup)
    factor = 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))
    return max(0.0, factor * (1 - floor) + floor)


def _polynomial(
    step: int, *, warmup: int, total: int, end: float, power: float, base: float
) -> float:
    if step < warmup:
        return step / max(1, warmup)
    if step > total or total == warmup:  # nothing is left to decay over
        return end / base
    left = 1 - (step - warmup) / (total - warmup)
    return ((base - end) * math.pow(left, power) + end) / base


def _inverse_sqrt(step: int, *, warmup: int, timescale: int) -> float:
    if step < warmup:
        return step / max(1, warmup)
    return 1.0 / math.sqrt((step + (timescale - warmup)) / timescale)


def _stages(
    step: int,
    *,
    rise_end: int,
    level_end: int,
    decay: int,
    shapes: tuple[Shape, Shape],
    floor: float,
    cycles: float,
) -> float:
    if step < rise_end:
        factor = _risen(step / max(1, rise_end), shapes[0])
    elif step < level_end:
        return 1.0
    elif step < level_end + decay:
        factor = _fallen((step - level_end) / max(1, decay), shapes[1], cycles)
    else:
        return floor
    return max(0.0, factor * (1.0 - floor) + floor)


def _risen(progress: float, shape: Shape) -> float:
    if shape == "linear":
        return progress
    if shape == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * progress))
    return 1.0 - math.sqrt(1.0 - progress)


def _fallen(progress: float, shape: Shape, cycles: float) -> float:
    if shape == "linear":
        return 1.0 - progress
    if shape == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))
    return 1.0 - math.sqrt(progress)
