"""Mixed precision: which operations run in which type, and the scaling of fp16 gradients."""

import contextlib
from typing import Final

import torch

from runtime._arguments import TrainingArguments


class Precision:
    """Autocasting and, for fp16, a gradient scaler.

    Args:
        args: `bf16`, `fp16` and `tf32`.
        device: Where the model is.

    Attributes:
        scaler: For fp16; it reads on the host, once a step, whether gradients were finite.
    """

    def __init__(self, args: TrainingArguments, device: torch.device) -> None:
        self._dtype: Final = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        self._device = device.type
        self.scaler: torch.amp.GradScaler | None = (
            torch.amp.GradScaler(device.type) if args.fp16 else None
        )

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which the model and its loss are computed."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients, of the scaled loss if there is a scaler."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring gradients to their true size before they are clipped or looked at."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Step the optimizer; tell whether it did, which fp16 gradients may prevent."""
        if self.scaler is None:
            optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before
