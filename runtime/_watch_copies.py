"""Arrays on their way from a device to the host, behind the work that makes them."""

import logging
from typing import Final, cast

import torch

from runtime._device import allow_polling_beside_captures

log = logging.getLogger("runtime")

_waited_for: Final[set[str]] = set()


class HostCopies:
    """Tensors whose copies to the host were begun and are not waited for.

    CPU tensors are there already. Of other devices than CUDA's no asynchronous way is known: they
    are waited for, which is said once.

    Args:
        tensors: On one device; nobody changes them afterwards.

    Raises:
        RuntimeError: The stream is being captured into a CUDA graph.
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        device = tensors[0].device
        if device.type == "cuda":
            self._begin(tensors, device)
        else:
            if device.type != "cpu" and device.type not in _waited_for:
                _waited_for.add(device.type)
                log.warning("watching tensors on %r waits for that device", device.type)
            self._tensors = [tensor.cpu() for tensor in tensors]

    def ready(self) -> bool:
        """Whether they have arrived; never waits."""
        if self._event is None:
            return True
        allow_polling_beside_captures()
        if self._event.query():  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._event = None  # the other rows need not ask again
        return self._event is None

    def row(self, tensor: int, index: int) -> list[float]:
        """One row of one of the tensors, once they are ready."""
        said = cast("object", self._tensors[tensor][index].tolist())  # pyright: ignore[reportUnknownMemberType] - torch
        return cast("list[float]", said)

    def _begin(self, tensors: tuple[torch.Tensor, ...], device: torch.device) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a CUDA graph is captured; sample after its replay")
        with torch.cuda.device(device):
            self._tensors = [
                torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(
                    tensor, non_blocking=True
                )
                for tensor in tensors
            ]
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            event.record()
        self._event = event
