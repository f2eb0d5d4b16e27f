"""Gives an optimizer and a schedule the state of a checkpoint, if it is theirs."""

from pathlib import Path
from typing import Any, Final, cast

import torch

from runtime._checkpoint_errors import MismatchedStateError
from runtime._checkpoint_files import OPTIMIZER, SCHEDULER
from runtime._schedules import Scheduler

_LIKE_PARAMETER: Final = ("exp_avg", "exp_avg_sq", "momentum_buffer", "sum", "square_avg")
"""State of torch's optimizers that has the shape of its parameter."""


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, object], path: Path) -> None:
    """Put an optimizer where it stood.

    Args:
        optimizer: Of the same parameters, in the same groups and order.
        state: Its state in the checkpoint.
        path: The checkpoint, for messages.

    Raises:
        MismatchedStateError: The state is of another class, or of other parameters.
    """
    owner = type(optimizer).__qualname__
    expected = _sizes(optimizer.param_groups)
    try:
        saved = _sizes(cast("list[dict[str, Any]]", state["param_groups"]))
        if saved == expected:
            optimizer.load_state_dict(cast("dict[str, Any]", state))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it is no optimizer's state ({type(error).__name__}: {error})"
        raise MismatchedStateError(path, OPTIMIZER, owner, why) from error
    if saved != expected:
        why = f"it has groups of {saved} parameters, and the optimizer of {expected}"
        raise MismatchedStateError(path, OPTIMIZER, owner, why)
    # Loading replaces the groups' settings, so those of another class are missing now.
    missing = sorted(set(optimizer.defaults) - set(optimizer.param_groups[0]))
    if missing:
        why = f"it has no {', '.join(missing)}, so another class of optimizers made it"
        raise MismatchedStateError(path, OPTIMIZER, owner, why)
    _check_shapes(optimizer, path)


def load_schedule(scheduler: Scheduler, state: dict[str, object], path: Path) -> None:
    """Put a schedule where it stood.

    Raises:
        MismatchedStateError: The state is of another class.
    """
    owner = type(scheduler).__qualname__
    own = cast("dict[str, Any]", scheduler.state_dict())
    # Private entries differ between versions of torch.
    missing = sorted(name for name in own if name not in state and not name.startswith("_"))
    if missing:
        why = f"it has no {', '.join(missing)}, so another class of schedules made it"
        raise MismatchedStateError(path, SCHEDULER, owner, why)
    scheduler.load_state_dict(state)


def _sizes(groups: list[dict[str, Any]]) -> list[int]:
    return [len(group["params"]) for group in groups]


def _check_shapes(optimizer: torch.optim.Optimizer, path: Path) -> None:
    for index, (parameter, state) in enumerate(optimizer.state.items()):
        for name in _LIKE_PARAMETER:
            found = cast("dict[str, Any]", state).get(name)
            if isinstance(found, torch.Tensor) and found.shape != parameter.shape:
                why = (
                    f"{name} of parameter {index} has shape {list(found.shape)} instead of "
                    f"{list(parameter.shape)}, so it was made with other parameters or in another "
                    "order"
                )
                raise MismatchedStateError(path, OPTIMIZER, type(optimizer).__qualname__, why)
