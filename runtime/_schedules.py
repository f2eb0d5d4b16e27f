"""Makes the learning rate schedules that training arguments name.

Schedulers are torch's own (`LambdaLR`, `ReduceLROnPlateau`) but for `greedy`, and their states are
plain data that Transformers' Trainer loads, as ours are loaded from it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue, ValidationError
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from runtime import _schedule_factors as factors
from runtime._choices import SchedulerType
from runtime._greedy_schedule import GreedyLR

Scheduler: TypeAlias = LRScheduler | ReduceLROnPlateau | GreedyLR
"""Anything that moves an optimizer's learning rate, a user's own included."""

_FACTORS: Final[Mapping[SchedulerType, Callable[..., factors.Factor]]] = {
    SchedulerType.LINEAR: factors.linear,
    SchedulerType.COSINE: factors.cosine,
    SchedulerType.COSINE_WITH_RESTARTS: factors.cosine_with_restarts,
    SchedulerType.POLYNOMIAL: factors.polynomial,
    SchedulerType.CONSTANT: factors.constant,
    SchedulerType.CONSTANT_WITH_WARMUP: factors.constant_with_warmup,
    SchedulerType.INVERSE_SQRT: factors.inverse_sqrt,
    SchedulerType.COSINE_WITH_MIN_LR: factors.cosine_with_min_lr,
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR: factors.cosine_warmup_with_min_lr,
    SchedulerType.WARMUP_STABLE_DECAY: factors.warmup_stable_decay,
}

_BY_METRIC: Final[Mapping[SchedulerType, Callable[..., ReduceLROnPlateau | GreedyLR]]] = {
    SchedulerType.REDUCE_ON_PLATEAU: ReduceLROnPlateau,
    SchedulerType.GREEDY: GreedyLR,
}


def create_scheduler(
    name: SchedulerType | str,
    optimizer: Optimizer,
    *,
    warmup_steps: int,
    training_steps: int,
    kwargs: Mapping[str, JsonValue] | None = None,
) -> Scheduler:
    """Make a schedule and set the optimizer to its first learning rate.

    The loop steps it after each optimizer step, except for the two that follow a metric
    (`follows_metric`), which are stepped with it after each evaluation.

    Args:
        name: One of `SchedulerType`.
        optimizer: Its initial learning rate is what the schedule scales.
        warmup_steps: Optimizer steps during which the learning rate rises.
        training_steps: Optimizer steps of the whole training.
        kwargs: The schedule's own options.

    Raises:
        ValueError: No schedule has this name, or it does not take these options.
    """
    kind, options = SchedulerType(name), dict(kwargs or {})
    check_options(kind, options)
    if kind in _BY_METRIC:
        try:
            return _maker(kind)(optimizer, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"lr_scheduler_kwargs={options} of {kind.value}: {error}") from error
    return LambdaLR(
        optimizer, _factor(kind, optimizer.defaults["lr"], warmup_steps, training_steps, options)
    )


def follows_metric(name: SchedulerType | str) -> bool:
    """Whether a schedule is stepped with a metric after an evaluation, and not at each step."""
    return SchedulerType(name) in _BY_METRIC


def check_options(name: SchedulerType | str, kwargs: Mapping[str, JsonValue] | None) -> None:
    """Find out what is wrong with a schedule's options as far as it can be known without a model.

    Raises:
        ValueError: An option is unknown, missing, of the wrong type, or contradicts another.
    """
    kind, options = SchedulerType(name), dict(kwargs or {})
    known = _options(_BY_METRIC.get(kind) or _FACTORS[kind])
    for option, value in options.items():
        if option not in known:
            has = f"which has {', '.join(known)}" if known else "which has none"
            raise ValueError(
                f"lr_scheduler_kwargs has {option}={value!r}, no option of {kind.value}, {has}"
            )
    if kind in _FACTORS:  # an endless learning rate is above every `lr_end`
        _factor(kind, float("inf"), 0, 1, options)


def _factor(
    kind: SchedulerType, base: float, warmup: int, total: int, options: Mapping[str, JsonValue]
) -> factors.Factor:
    """Build a factor.

    Raises:
        ValueError: The options do not fit it.
    """
    try:
        return _builder(kind)(base, warmup, total, **options)
    except ValidationError as error:
        faults = "; ".join(
            f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_url=False)
        )
        raise ValueError(f"lr_scheduler_kwargs={options} of {kind.value}: {faults}") from error
    except ValueError as error:
        raise ValueError(f"lr_scheduler_kwargs={options} of {kind.value}: {error}") from error


def _builder(kind: SchedulerType) -> Callable[..., factors.Factor]:
    """The builder of a factor; its options come from outside, so no type checker knows them."""
    return _FACTORS[kind]


def _maker(kind: SchedulerType) -> Callable[..., ReduceLROnPlateau | GreedyLR]:
    """The class of a schedule that follows a metric; its options come from outside as well."""
    return _BY_METRIC[kind]


def _options(make: Callable[..., object]) -> list[str]:
    """The names of a schedule's own options."""
    parameters = inspect.signature(make).parameters.values()
    return [
        each.name
        for each in parameters
        if each.kind is not inspect.Parameter.POSITIONAL_ONLY and each.name != "optimizer"
    ]
