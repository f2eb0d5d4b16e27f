"""Wraps a model so that its gradients are the mean over all processes."""

import contextlib
import inspect
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments

_NOTHING: Final = contextlib.nullcontext()

_BUFFERS: Final = ("forward_sync_buffers", "broadcast_buffers")
"""What newer and older versions of torch call the setting."""


class DataParallel:
    """A model as the loop calls it where several processes train.

    Args:
        model: On its device already.
        args: The `ddp_*` settings; where unset, upstream's: parameters without a gradient are
            looked for unless activations are computed again, everything else is torch's.

    Attributes:
        module: What to call. Not wrapped if no parameter is trained.
    """

    def __init__(self, model: torch.nn.Module, args: "TrainingArguments") -> None:
        trained = any(each.requires_grad for each in model.parameters())
        self._wrapped = _wrapped(model, args) if trained else None
        self._learns = bool(args.ddp_static_graph)
        self.module: torch.nn.Module = self._wrapped or model

    def keeping_gradients(self) -> contextlib.AbstractContextManager[None]:
        """A context in which gradients add up in this process and are not exchanged.

        Exchanging them once more than needed changes nothing but the time it takes.
        """
        if self._wrapped is None:
            return _NOTHING
        if self._learns:  # torch learns a static graph from the first exchange, or fails
            self._learns = False
            return _NOTHING
        return self._wrapped.no_sync()


def _wrapped(model: torch.nn.Module, args: "TrainingArguments") -> DistributedDataParallel:
    again = args.gradient_checkpointing or getattr(model, "is_gradient_checkpointing", False)
    settings: dict[str, Any] = {"find_unused_parameters": not again}
    for name in ("find_unused_parameters", "bucket_cap_mb", "static_graph"):
        value = getattr(args, f"ddp_{name}")
        if value is not None:
            settings[name] = value
    if args.ddp_broadcast_buffers is not None:
        known = inspect.signature(cast("Any", DistributedDataParallel)).parameters
        settings[next(name for name in _BUFFERS if name in known)] = args.ddp_broadcast_buffers
    device = next(model.parameters()).device
    devices = [device] if device.type != "cpu" else None
    return DistributedDataParallel(model, device_ids=devices, **settings)
