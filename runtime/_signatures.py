"""What a model's `forward` says about its batches: labels, a loss without labels, columns to keep.

The rules are those of Transformers' Trainer, so that the same model gets the same batches.
"""

import inspect
from collections.abc import Iterable, Sequence

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
