"""What a model's `forward` says about its batches: labels, a loss without labels, columns to keep.

The rules are those of Transformers' Trainer, so that the same model gets the same batches.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch

LABEL_KEYS = ("label", "label_ids")
"""Keys of a sample that the default collator turns into `labels`."""


def find_labels(model_class: type[torch.nn.Module]) -> list[str]:
    """The arguments of `forward` that are labels: those named so, and the ends of an answer."""
    names = inspect.signature(model_class.forward).parameters
    answers = (
        ("start_positions", "end_positions") if "QuestionAnswering" in model_class.__name__ else ()
    )
    return [name for name in names if "label" in name or name in answers]


def can_return_loss(model_class: type[torch.nn.Module]) -> bool:
    """Whether `forward` computes a loss without labels: it has `return_loss=True`."""
    parameter = inspect.signature(model_class.forward).parameters.get("return_loss")
    return parameter is not None and parameter.default is True


def wanted_columns(model: torch.nn.Module, label_names: Iterable[str]) -> list[str]:
    """The keys of a sample that the model can use: arguments of its `forward`, and labels."""
    known = [*inspect.signature(model.forward).parameters, *LABEL_KEYS, *label_names]
    return list(dict.fromkeys(known))


def named_inputs(model: torch.nn.Module, batch: Sequence[object]) -> dict[str, object]:
    """The parts of a batch without names, by the arguments of `forward` that they are passed to."""
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return dict(zip(names, batch, strict=False))


def cannot_bind(function: object, count: int, names: Iterable[str] = ()) -> str | None:
    """Why a function cannot be called with so many arguments and these names; None if it can."""
    try:
        signature = inspect.signature(cast("Callable[..., object]", function))
    except (TypeError, ValueError):  # some that are written in C have none
        return None
    try:
        signature.bind(*[None] * count, **dict.fromkeys(names))
    except TypeError as error:
        return str(error)
    return None


def misfit(model: torch.nn.Module, batch: object) -> str | None:
    """Why a model's `forward` cannot be called with a batch; None if it can, or cannot be told.

    A decorated `forward` may take more than it shows, so only what its outermost function
    refuses counts.
    """
    try:
        signature = inspect.signature(model.forward, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    told = _contents(batch)
    try:
        if isinstance(batch, Mapping):
            named = cast("Mapping[str, object]", batch)
            signature.bind(**named)
        elif isinstance(batch, (tuple, list)):
            signature.bind(*cast("Sequence[object]", batch))
        else:
            signature.bind(batch)
    except TypeError as error:
        return (
            f"{type(model).__name__}.forward{signature} cannot be called with a batch of "
            f"{told}: {error}. Rename the samples' keys to its parameters, or pass a "
            "data_collator that makes what it takes; by default text, None and keys that it does "
            "not have are left out"
        )
    return None


def _contents(batch: object) -> str:
    """What a batch holds: the names in a mapping, else the kinds of its parts."""
    if isinstance(batch, Mapping):
        return ", ".join(map(str, cast("Mapping[object, object]", batch))) or "nothing"
    if not isinstance(batch, (tuple, list)):
        return type(batch).__name__
    parts = [type(each).__name__ for each in cast("Sequence[object]", batch)]
    return ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
