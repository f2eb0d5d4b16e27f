"""What evaluation takes from one batch: its loss, what the model predicted, its labels."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import torch

from runtime._signatures import named_inputs

Prediction: TypeAlias = tuple[torch.Tensor | None, Any, Any]
"""Loss, predictions and labels of a batch, each None if there is none."""

_CACHE: Final = ["past_key_values"]
"""What models with a `config` return for the next call, not for metrics."""


def prediction_step(
    model: torch.nn.Module,
    inputs: Any,  # noqa: ANN401 - a mapping, a tuple or a tensor
    *,
    label_names: Sequence[str],
    returns_loss: bool,
    prediction_loss_only: bool,
    ignore_keys: Sequence[str] | None,
    compute_loss: Callable[[Any], tuple[torch.Tensor, Any]],
    forward: Callable[[Any], Any],
) -> Prediction:
    """Evaluate one batch, without gradients.

    There is a loss if the batch has all labels, or if the model computes one without any. Of a
    dictionary or dataclass that the model returns, everything but the loss is a prediction; of a
    tuple, everything behind the loss. A single prediction or label stands alone, several in a
    tuple.

    Args:
        model: Whose `forward` names the parts of a batch, and whose `config` may say what to
            ignore.
        inputs: The batch, on the device.
        label_names: The parts that are labels.
        returns_loss: Whether the model computes a loss without labels, by its signature.
        prediction_loss_only: Whether only the loss is of interest.
        ignore_keys: What to leave out of a dictionary; by default what the model's config says.
        compute_loss: Makes a loss and the outputs of a batch.
        forward: Makes the outputs of a batch.

    Returns:
        The mean loss, the predictions and the labels, detached, still on the device.
    """
    ignored = ignored_keys(model) if ignore_keys is None else list(ignore_keys)
    named = _named(model, inputs)
    asked = named.get("return_loss")
    without_labels = not label_names and bool(returns_loss if asked is None else asked)
    has_labels = bool(label_names) and all(named.get(name) is not None for name in label_names)
    has_loss = has_labels or without_labels
    labels = _alone(tuple(named.get(name) for name in label_names)) if has_loss else None
    loss: torch.Tensor | None = None
    with torch.no_grad():
        if has_loss:
            loss, outputs = compute_loss(inputs)
            loss = loss.detach().mean()
        else:
            outputs = forward(inputs)
    if prediction_loss_only:
        return loss, None, None
    return loss, _alone(_predictions(outputs, ignored, has_loss=has_loss)), labels


def ignored_keys(model: torch.nn.Module) -> list[str]:
    """The outputs that the model's config keeps from metrics."""
    config: object = getattr(model, "config", None)
    if config is None:
        return []
    return list(cast("Sequence[str]", getattr(config, "keys_to_ignore_at_inference", _CACHE)))


def output_fields(outputs: object) -> dict[str, Any] | None:
    """What a model returned, by name: of a mapping, a dataclass or an object that has a loss.

    None for outputs without names, such as tuples and tensors.
    """
    if isinstance(outputs, Mapping):
        return dict(cast("Mapping[str, Any]", outputs))
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type):
        fields = dataclasses.fields(outputs)
        return {field.name: getattr(outputs, field.name) for field in fields}
    if hasattr(outputs, "loss") and hasattr(outputs, "__dict__"):
        return dict(vars(outputs))
    return None


def _predictions(outputs: object, ignored: Sequence[str], *, has_loss: bool) -> tuple[Any, ...]:
    fields = output_fields(outputs)
    if fields is not None:
        left_out = {*ignored, "loss"} if has_loss else set(ignored)
        found = [value for name, value in fields.items() if name not in left_out]
    elif isinstance(outputs, (tuple, list)):
        found = list(cast("Sequence[Any]", outputs))[1 if has_loss else 0 :]
    else:
        found = [] if has_loss else [outputs]
    return tuple(detached(value) for value in found if value is not None)


def _named(model: torch.nn.Module, inputs: object) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        return cast("Mapping[str, Any]", inputs)
    if isinstance(inputs, (tuple, list)):
        return named_inputs(model, cast("Sequence[object]", inputs))
    return named_inputs(model, (inputs,))


def _alone(values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - models return anything
    return detached(values[0] if len(values) == 1 else values)


def detached(nested: Any) -> Any:  # noqa: ANN401 - models return anything
    """The same values without their graphs."""
    if isinstance(nested, torch.Tensor):
        return nested.detach()
    if isinstance(nested, Mapping):
        named = cast("Mapping[str, Any]", nested)
        return {name: detached(value) for name, value in named.items()}
    if isinstance(nested, (tuple, list)):
        parts = [detached(value) for value in cast("Sequence[Any]", nested)]
        return parts if isinstance(nested, list) else tuple(parts)
    return nested
