"""A device whose answers are read outside of training, for tests that count what training reads."""

from collections.abc import Mapping

import torch
from torch.utils._python_dispatch import _disable_current_modes


class Later:
    """A device that answers when it is asked on another thread, or at the end."""

    def take(self, tensors: Mapping[str, torch.Tensor]) -> "Taken":
        """Keep the tensors; they are never changed in place."""
        return Taken(dict(tensors))


class Taken:
    """Values on their way."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def ready(self) -> bool:
        """At once, so that whoever reads what is ready is found out."""
        return True

    def values(self) -> dict[str, float]:
        """Read them, as a device's answer and not as an operation of training."""
        with _disable_current_modes():
            return {name: float(each) for name, each in self._tensors.items()}
