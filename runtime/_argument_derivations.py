"""What training arguments follow from others, in upstream's order.

Deriving twice is deriving once, so that arguments read back from a file equal those written.
"""

import logging
import os
import warnings
from typing import Final

from runtime._argument_data import DataFields
from runtime._choices import (
    Choice,
    HubStrategy,
    IntervalStrategy,
    OptimizerNames,
    SaveStrategy,
    SchedulerType,
)

log = logging.getLogger("runtime")

_CHOICES: Final[dict[str, type[Choice]]] = {
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
}

_FOLLOWING: Final = (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)
"""Schedules that go by a metric."""


def derive(args: DataFields) -> None:
    """Fill in what was left open and bring every value into the form that the trainer reads.

    Raises:
        ValueError: A word is none of a field's choices, or intervals cannot be derived.
    """
    _choose(args)
    args.output_dir = os.path.expanduser(args.output_dir or "trainer_output")  # noqa: PTH111 - a str stays one
    if isinstance(args.include_num_input_tokens_seen, bool):
        args.include_num_input_tokens_seen = "all" if args.include_num_input_tokens_seen else "no"
    if args.disable_tqdm is None:
        args.disable_tqdm = log.getEffectiveLevel() > logging.WARNING
    args.report_to = _sinks(args.report_to)
    _derive_checkpointing(args)
    _derive_evaluation(args)
    _derive_machine(args)
    _round_steps(args)


def _choose(args: DataFields) -> None:
    for name, choices in _CHOICES.items():
        value = getattr(args, name)
        try:
            setattr(args, name, choices(value))
        except ValueError as error:
            words = ", ".join(repr(member.value) for member in choices)
            more = (
                "; hand any other over as Trainer(..., optimizers=(optimizer, None))"
                if name == "optim"
                else ""
            )
            raise ValueError(f"{name}={value!r} must be one of {words}{more}") from error


def _sinks(wanted: str | list[str] | None) -> list[str]:
    if wanted in ("all", ["all"]):
        from bus import SINKS  # noqa: PLC0415 - only those who ask for all pay for the registry

        return [name for name in SINKS.names() if SINKS.look(name).readiness == "ready"]
    if wanted is None or wanted in ("none", ["none"]):
        return []
    return [wanted] if isinstance(wanted, str) else wanted


def _derive_checkpointing(args: DataFields) -> None:
    """The old names, used where the new ones are unset, mirror these from then on."""
    old, old_kwargs = args.gradient_checkpointing, args.gradient_checkpointing_kwargs
    if args.activation_checkpointing is None and old is not None:
        _deprecate("gradient_checkpointing")
        args.activation_checkpointing = old
    if args.activation_checkpointing_kwargs is None and old_kwargs is not None:
        _deprecate("gradient_checkpointing_kwargs")
        args.activation_checkpointing_kwargs = old_kwargs
    args.activation_checkpointing = bool(args.activation_checkpointing)
    args.gradient_checkpointing = args.activation_checkpointing
    args.gradient_checkpointing_kwargs = args.activation_checkpointing_kwargs


def _deprecate(name: str) -> None:
    new = name.replace("gradient", "activation")
    warnings.warn(f"{name} is deprecated: it is {new} now", FutureWarning, stacklevel=6)


def _derive_evaluation(args: DataFields) -> None:
    if args.eval_strategy != IntervalStrategy.NO:
        args.do_eval = True
    if args.eval_strategy == IntervalStrategy.STEPS and not args.eval_steps:
        if args.logging_steps <= 0:
            raise ValueError(
                f'eval_strategy="steps" needs an interval, but eval_steps={args.eval_steps} and '
                f"logging_steps={args.logging_steps}: set eval_steps above 0"
            )
        args.eval_steps = args.logging_steps
    if args.metric_for_best_model is None and (
        args.load_best_model_at_end or args.lr_scheduler_type in _FOLLOWING
    ):
        args.metric_for_best_model = "loss"
    if args.greater_is_better is None and args.metric_for_best_model is not None:
        args.greater_is_better = not args.metric_for_best_model.endswith("loss")


def _derive_machine(args: DataFields) -> None:
    if args.torch_compile_backend is not None or args.torch_compile_mode is not None:
        args.torch_compile = True
    if args.torch_compile and args.torch_compile_backend is None:
        args.torch_compile_backend = "inductor"
    if args.use_cpu:
        args.dataloader_pin_memory = False


def _round_steps(args: DataFields) -> None:
    """Make integers of intervals above 1; 1.0 stays, as upstream has it.

    Raises:
        ValueError: One is above 1 and no integer.
    """
    for event in ("logging", "eval", "save"):
        steps: float = getattr(args, f"{event}_steps") or 0
        if getattr(args, f"{event}_strategy") == "steps" and 1 < steps < float("inf"):
            if steps != int(steps):
                raise ValueError(
                    f"{event}_steps={steps} must be an integer if above 1; below 1 it is a share "
                    "of all steps"
                )
            setattr(args, f"{event}_steps", int(steps))
