"""What a trainer does with one batch: the forward pass, its loss, and the gradients."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from runtime._data import move_to_device
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
        if loss.numel() != 1:
            raise ValueError(
                f"the loss has shape {tuple(loss.shape)} but training needs one number; reduce it, "
                "for example with .mean()"
            )
        parts = self.current_gradient_accumulation_steps
        if parts > 1 and not self._loss_is_scaled(num_items_in_batch):
            loss = loss / parts
        self._precision.backward(loss)
        return cast("torch.Tensor", loss.detach())

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
                _logits(outputs),
                labels,
                shift=self.loss_shifts_labels,
                num_items_in_batch=num_items_in_batch,
            )
        else:
            loss = _loss_of(outputs, given)
        return (loss, outputs) if return_outputs else loss

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[object]:
        """The context of the forward pass and the loss: autocasting, if it is on."""
        return self._precision.autocast()

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        if not isinstance(inputs, (Mapping, Sequence, torch.Tensor)) or isinstance(inputs, str):
            raise TypeError(
                f"the data collator made a {type(inputs).__name__} of a batch; a mapping of names "
                "to tensors, a tuple of tensors or a tensor is needed"
            )
        return move_to_device(inputs, self.device)

    def forward(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:  # noqa: ANN401 - models return anything
        """Call a model with a batch: its mapping by keyword, its tuple by position."""
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


def _logits(outputs: Any) -> torch.Tensor:  # noqa: ANN401 - models return anything
    if isinstance(outputs, Mapping):
        return cast("Mapping[str, torch.Tensor]", outputs)["logits"]
    found = getattr(outputs, "logits", outputs)
    return cast("torch.Tensor", found[0] if isinstance(found, (tuple, list)) else found)


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
        raise ValueError(f"the model returned a {kind} without a loss tensor; {_LOSS_HELP}")  # noqa: TRY004 - the value is wrong, not its use
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
