"""What a trainer does to the process and to the model before training, as the arguments say."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from bus import plain_mapping
from runtime._pretrained import settings_of
from runtime._seeds import enable_full_determinism, set_seed

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments


class Arguments(Protocol):
    """The arguments of a training, ours or Transformers'."""

    def to_dict(self) -> dict[str, Any]:
        """Every argument by name."""
        ...


def prepare_process(args: "TrainingArguments") -> None:
    """Seed the generators and set torch's switches for the whole process."""
    if args.full_determinism:
        enable_full_determinism(args.seed)
    else:
        set_seed(args.seed)
    if args.tf32 is not None:
        torch.backends.cuda.matmul.allow_tf32 = args.tf32
        torch.backends.cudnn.allow_tf32 = args.tf32


def compiled(model: torch.nn.Module, args: "TrainingArguments") -> torch.nn.Module:
    """The model under `torch.compile`, with the backend and mode of the arguments.

    Raises:
        ValueError: There is no such backend or mode.
    """
    backend, mode = args.torch_compile_backend or "inductor", args.torch_compile_mode
    try:
        made = torch.compile(model, backend=backend, mode=mode)  # pyright: ignore[reportUnknownMemberType] - torch
    except RuntimeError as error:
        raise ValueError(
            f"torch_compile_backend={backend!r} with torch_compile_mode={mode!r} is not what torch "
            f"has ({str(error).splitlines()[0]}); set them to what it lists, or leave them out"
        ) from error
    return cast("torch.nn.Module", made)


def enable_gradient_checkpointing(
    model: torch.nn.Module, settings: Mapping[str, object] | None
) -> None:
    """Have a model that offers it compute activations again instead of keeping them.

    Raises:
        ValueError: The model has no way to be told.
    """
    enable = getattr(model, "gradient_checkpointing_enable", None)
    if not callable(enable):
        raise ValueError(  # noqa: TRY004 - the argument is wrong for this model
            f"activation_checkpointing=True, but {type(model).__qualname__} has no method "
            "gradient_checkpointing_enable; give it one, or use torch.utils.checkpoint in forward"
        )
    enable(gradient_checkpointing_kwargs=dict(settings or {"use_reentrant": False}))


def accepts_loss_arguments(model: torch.nn.Module) -> bool:
    """Whether a model takes `num_items_in_batch` and scales its loss by it, as Transformers' do."""
    declared: object = getattr(model, "accepts_loss_kwargs", None)
    if isinstance(declared, bool):
        return declared
    parameters = inspect.signature(model.forward).parameters.values()
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def run_settings(model: torch.nn.Module, args: Arguments) -> dict[str, object]:
    """What a run remembers of a training: the model's configuration, the arguments, its size."""
    parameters = sum(each.numel() for each in model.parameters())
    model_settings = plain_mapping(settings_of(model))
    return {**model_settings, **args.to_dict(), "model/num_parameters": parameters}
