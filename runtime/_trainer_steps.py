"""What a trainer does with one batch: the forward pass, its loss, and the gradients."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from runtime._data import move_to_device
from runtime._signatures import misfit
from runtime._trainer_base import Batch, TrainerBase

_LOSS_HELP = (
    "let the model return its loss (a dictionary or object with `loss`, or a tuple that begins "
    "with it), pass compute_loss_func=..., or override compute_loss"
)


class BatchSteps(TrainerBase):
    """The methods that people override to compute something else from a batch."""

    def training_step(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the gradients of one micro-batch.

        Args:
            model: What to call; in training mode already.
            inputs: The micro-batch, wherever it is.
            num_items_in_batch: Labels that count in all micro-batches of this optimizer step, on
                the device, if the loss is to be scaled by them.

        Returns:
            The loss, detached, on the device; scaled so that those of a step add up to its loss.
        """
        set_train = getattr(self.optimizer, "train", None)  # schedule-free optimizers have it
        if callable(set_train):
            set_train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0 and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise self._unusable(loss)
        parts = self.current_gradient_accumulation_steps
        if parts > 1 and not self._loss_is_scaled(num_items_in_batch):
            loss = loss / parts
        self._precision.backward(loss)
        return loss.detach()

    def check_batch(self, inputs: Batch) -> None:
        """Refuse a batch that the model cannot be called with, before anything is done with it.

        Whoever has a `training_step` or `compute_loss` of their own may call it in any way.

        Raises:
            TypeError: Naming what does not fit.
        """
        steps = (self.training_step, self.compute_loss, self._prepare_inputs, self.forward)
        ours = BatchSteps.__dict__
        if any(getattr(each, "__func__", each) is not ours[each.__name__] for each in steps):
            return
        _check_kind(inputs)
        if self.compute_loss_func is not None or self.label_smoother is not None:
            inputs, _ = _without_labels(inputs)
        changed = type(self.model).__call__ is not torch.nn.Module.__call__
        hooked = getattr(self.model, "_forward_pre_hooks", None)  # they may change the batch
        fault = None if changed or hooked else misfit(self.model, inputs)
        if fault is not None:
            raise TypeError(fault)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:  # noqa: ANN401 - a tensor, or a tuple with the model's outputs of any kind
        """Compute the loss of a batch; override it for a loss of your own.

        The model gets a mapping as keyword arguments, a tuple or list as positional ones. Its
        loss is what it returns as `loss`, or first, or alone.

        Args:
            model: What to call.
            inputs: The batch, on the device.
            return_outputs: Whether to return the model's outputs too.
            num_items_in_batch: Labels that count in the whole optimizer step; handed to models and
                loss functions that take them.

        Returns:
            The loss, a tensor with one element; with `return_outputs` a tuple of it and of
            what the model returned.

        Raises:
            ValueError: The model returned no loss.
        """
        given = inputs
        labels = None
        if self.compute_loss_func is not None or self.label_smoother is not None:
            inputs, labels = _without_labels(inputs)
        outputs = self.forward(model, inputs, num_items_in_batch)
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif self.label_smoother is not None and labels is not None:
            loss = self.label_smoother(
                _logits(outputs, labels),
                labels,
                shift=self.loss_shifts_labels,
                num_items_in_batch=num_items_in_batch,
            )
        else:
            loss = _loss_of(outputs, given)
        if num_items_in_batch is not None and model.training and self._weighs_ranks:
            # Divided by the labels of all; the mean of the gradients divides once more.
            loss = loss * self._group.world.size
        return (loss, outputs) if return_outputs else loss

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[object]:
        """The context of the forward pass and the loss: autocasting, if it is on."""
        return self._precision.autocast()

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        _check_kind(inputs)
        return move_to_device(inputs, self.device)

    def forward(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:  # noqa: ANN401 - models return anything
        """Call a model with a batch: its mapping by keyword, its tuple by position."""
        try:
            if isinstance(inputs, Mapping):
                more = (
                    {"num_items_in_batch": num_items_in_batch}
                    if self.model_accepts_loss_kwargs and num_items_in_batch is not None
                    else {}
                )
                return model(**cast("Mapping[str, Any]", inputs), **more)
            if isinstance(inputs, (tuple, list)):
                return model(*cast("Sequence[Any]", inputs))
            return model(inputs)
        except TypeError as error:
            fault = misfit(model, cast("object", inputs))
            if fault is None:  # the model's own
                raise
            raise TypeError(fault) from error

    def _unusable(self, loss: object) -> Exception:
        """What to say of a loss that has no gradient."""
        source = "compute_loss" if self.compute_loss_func is None else "compute_loss_func"
        if not isinstance(loss, torch.Tensor):
            return TypeError(
                f"{source} returned {loss!r:.80}, of {type(loss).__qualname__}; return the loss, a "
                "tensor with one element"
            )
        if loss.numel() != 1:
            return ValueError(
                f"the loss has shape {tuple(loss.shape)} but training needs one number; reduce it, "
                "for example with .mean()"
            )
        return ValueError(
            f"the loss, a tensor of {loss.dtype}, has no gradient, so nothing can be learned from "
            "it: it was computed without any parameter that requires a gradient, under "
            "torch.no_grad(), or detached; compute it from the model's outputs as they are, and "
            "unfreeze what is to be trained"
        )

    def _loss_is_scaled(self, num_items_in_batch: torch.Tensor | None) -> bool:
        """Whether the loss is divided already by what the whole optimizer step holds."""
        if self.loss_is_scaled_for_ga is not None:
            return self.loss_is_scaled_for_ga
        by_model = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return by_model or self.compute_loss_func is not None


def _without_labels(inputs: Batch) -> tuple[Batch, Any]:
    """The batch for the model, and the labels for the loss function."""
    if isinstance(inputs, Mapping):
        named = dict(cast("Mapping[str, Any]", inputs))
        labels = named.pop("labels", None)
        return named, labels
    if isinstance(inputs, (tuple, list)) and len(cast("Sequence[Any]", inputs)) > 1:
        parts = cast("Sequence[Any]", inputs)
        return tuple(parts[:-1]), parts[-1]
    return cast("Batch", inputs), None


def _logits(outputs: Any, labels: Any) -> torch.Tensor:  # noqa: ANN401 - models return anything
    """The logits among what a model returned, which have one dimension more than the labels.

    Raises:
        ValueError: There are none.
    """
    if isinstance(outputs, Mapping):
        names = ", ".join(map(str, cast("Mapping[object, object]", outputs))) or "nothing"
        found = cast("Mapping[str, Any]", outputs).get("logits")
    else:
        names = f"a {type(outputs).__name__}"
        found = getattr(outputs, "logits", outputs)
        if isinstance(found, (tuple, list)):
            found = next(iter(cast("Sequence[Any]", found)), None)
    if isinstance(found, torch.Tensor) and found.dim() == getattr(labels, "ndim", -2) + 1:
        return found
    raise ValueError(
        f"label_smoothing_factor needs logits of one dimension more than the labels, of shape "
        f"{tuple(getattr(labels, 'shape', ()))}, and the model returned {names} without such; "
        "return them as `logits`, or set label_smoothing_factor=0"
    )


def _check_kind(inputs: object) -> None:
    if not isinstance(inputs, (Mapping, Sequence, torch.Tensor)) or isinstance(inputs, str):
        raise TypeError(
            f"the data collator made a batch that is a {type(inputs).__name__}; return a mapping "
            "of names to tensors, a tuple of tensors, or a tensor"
        )


def _loss_of(outputs: Any, inputs: Batch) -> torch.Tensor:  # noqa: ANN401 - models return anything
    """The loss among what a model returned."""
    if isinstance(outputs, Mapping):
        named = cast("Mapping[str, Any]", outputs)
        if "loss" not in named:
            raise ValueError(
                f"the model returned {', '.join(map(str, named))} but no loss, given "
                f"{_described(inputs)}; {_LOSS_HELP}"
            )
        found = named["loss"]
    elif isinstance(outputs, torch.Tensor):
        found = outputs
    elif isinstance(outputs, (tuple, list)) and outputs:
        found = cast("Sequence[Any]", outputs)[0]
    else:
        found = getattr(cast("object", outputs), "loss", None)
    if not isinstance(found, torch.Tensor):
        kind = type(cast("object", outputs)).__name__
        what = f"a loss that is {found!r:.80}" if found is not None else "no loss"
        raise ValueError(  # noqa: TRY004 - the value is wrong, not its use
            f"the model returned a {kind} with {what}, where a tensor is needed; {_LOSS_HELP}"
        )
    if found.dim() and found.numel() != 1:
        raise ValueError(
            f"the first tensor that the model returned has shape {tuple(found.shape)}, so it is no "
            f"loss; {_LOSS_HELP}"
        )
    return found


def _described(inputs: Batch) -> str:
    if isinstance(inputs, Mapping):
        return ", ".join(map(str, cast("Mapping[object, object]", inputs))) or "nothing"
    return f"a {type(inputs).__name__}"
