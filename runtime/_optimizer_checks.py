"""Whether optimizers and schedules that people pass belong to the model and to each other."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from runtime._schedules import Scheduler

if TYPE_CHECKING:
    from runtime._trainer import Trainer

Pair: TypeAlias = tuple[torch.optim.Optimizer | None, Scheduler | None]

_HOW = "pass optimizers=(optimizer, schedule), None for what the trainer is to make"


def checked_pair(optimizers: object) -> Pair:
    """An optimizer and a schedule, each of which may be left to the trainer.

    Raises:
        TypeError: They are not two, or of another kind.
    """
    kind = "None" if optimizers is None else f"a {type(optimizers).__qualname__}"
    if not isinstance(optimizers, (tuple, list)) or len(cast("Sequence[object]", optimizers)) != 2:
        raise TypeError(f"optimizers is {kind} and not a pair; {_HOW}")
    optimizer, scheduler = cast("Sequence[Any]", optimizers)
    for each, what, needs in (
        (optimizer, "optimizer", ("param_groups", "step")),
        (scheduler, "schedule", ("step", "state_dict")),
    ):
        if isinstance(each, type):
            raise TypeError(
                f"optimizers has the class {each.__qualname__} as its {what}; pass an object, "
                f"{each.__qualname__}(...)"
            )
        if each is not None and not all(hasattr(each, name) for name in needs):
            raise TypeError(
                f"optimizers has {each!r:.80}, of {type(each).__qualname__}, as its {what}; {_HOW}"
            )
    return optimizer, scheduler


def check_optimizers(trainer: "Trainer") -> None:
    """Refuse optimizers that contradict the other arguments, or that another model has.

    Raises:
        TypeError: `optimizer_cls_and_kwargs` is not a class and a dictionary.
        ValueError: The optimizer has none of the model's parameters.
        RuntimeError: There is more than one way to make it, or no model for it yet.
    """
    optimizer, kind = trainer.optimizer, trainer.optimizer_cls_and_kwargs
    if kind is not None:
        _check_class(kind)
    if trainer.model_init is not None and (optimizer or trainer.lr_scheduler):
        raise RuntimeError(
            "optimizers=... belongs to one model, but model_init makes a new one for each train(); "
            "pass model=... instead, or override create_optimizer_and_scheduler"
        )
    if optimizer is None:
        return
    if kind is not None:
        raise RuntimeError(
            "both optimizers and optimizer_cls_and_kwargs say what to optimize with; pass one"
        )
    own = {id(each) for each in trainer.model.parameters()}
    if not any(id(each) in own for group in optimizer.param_groups for each in group["params"]):
        if trainer.args.fsdp:
            raise ValueError(
                f"the {type(optimizer).__qualname__} that was passed holds parameters that the "
                "model had before it was sharded; pass optimizer_cls_and_kwargs=(class, settings) "
                "instead of optimizers, or override create_optimizer"
            )
        raise ValueError(
            f"the {type(optimizer).__qualname__} that was passed holds none of the model's "
            "parameters, so training would change nothing; make it with model.parameters(), after "
            f"moving the model to {trainer.args.device}"
        )


def check_schedule(optimizer: torch.optim.Optimizer, scheduler: Scheduler) -> None:
    """Refuse a schedule of another optimizer, once both are there.

    Wrappers of an optimizer share its groups, and so does a schedule of what they wrap.

    Raises:
        ValueError: It would change the rate of parameters that are not trained.
    """
    scheduled: Iterable[object] | None = getattr(
        getattr(scheduler, "optimizer", None), "param_groups", None
    )
    if scheduled is None:
        return
    own = {id(group) for group in optimizer.param_groups}
    if not any(id(group) in own for group in scheduled):
        raise ValueError(
            f"the {type(scheduler).__qualname__} that was passed is of another optimizer than the "
            f"{type(optimizer).__qualname__} that trains, so it would change no rate; make it with "
            "that optimizer and pass both, optimizers=(optimizer, schedule)"
        )


def _check_class(given: object) -> None:
    if (
        not isinstance(given, (tuple, list))
        or len(cast("Sequence[object]", given)) != 2
        or not callable(cast("Sequence[object]", given)[0])
        or not isinstance(cast("Sequence[object]", given)[1], dict)
    ):
        raise TypeError(
            f"optimizer_cls_and_kwargs={given!r:.80} must be a class and its settings; pass "
            'for example (torch.optim.SGD, {"lr": 0.1})'
        )
