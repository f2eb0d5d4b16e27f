"""The random number generators of a process, as one value that is taken and put back.

The form on disk is that of Transformers' `rng_state.pth`: a dictionary with `python`, `numpy`,
`cpu` and, where there is a CUDA device, `cuda`.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import numpy as np
import torch

_KEYS: Final = ("python", "numpy", "cpu", "cuda")

_PythonState: TypeAlias = tuple[Any, ...]
_NumpyState: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RngState:
    """Where the generators of Python, numpy and torch stand.

    Attributes:
        python: What `random.getstate` says.
        numpy: What `numpy.random.get_state` says: the global legacy generator.
        cpu: The state of torch's default CPU generator.
        cuda: That of the current CUDA device, or of every one where several are used by this
            process; None without CUDA.
    """

    python: _PythonState
    numpy: _NumpyState
    cpu: torch.Tensor
    cuda: torch.Tensor | tuple[torch.Tensor, ...] | None = None

    @classmethod
    def capture(cls) -> "RngState":
        """Read the generators; their states live on the host, so no device is waited for."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return cls(random.getstate(), _numpy_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Put the generators where they stood.

        A state of CUDA is left out where there is no CUDA device, and one of several devices where
        there are fewer.
        """
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002 - the global generator is what users draw from
        torch.set_rng_state(self.cpu)
        if self.cuda is None or not torch.cuda.is_available():
            return
        if isinstance(self.cuda, torch.Tensor):
            torch.cuda.set_rng_state(self.cuda)
        elif len(self.cuda) <= torch.cuda.device_count():
            torch.cuda.set_rng_state_all(self.cuda)

    def to_dict(self) -> dict[str, object]:
        """The dictionary that Transformers' trainer saves and reads."""
        plain: dict[str, object] = {"python": self.python, "numpy": self.numpy, "cpu": self.cpu}
        if self.cuda is not None:
            plain["cuda"] = list(self.cuda) if isinstance(self.cuda, tuple) else self.cuda
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> "RngState":
        """Read such a dictionary; what it holds beyond these generators is left alone.

        Raises:
            ValueError: A generator is missing, or its state is none.
        """
        missing = [key for key in _KEYS[:3] if key not in plain]
        if missing:
            raise ValueError(f"the state of {', '.join(missing)} is missing")
        python, numpy, cpu, cuda = (plain.get(key) for key in _KEYS)
        if isinstance(cuda, list):
            cuda = tuple(cast("list[torch.Tensor]", cuda))
        if not (_is_tuple(python) and _is_tuple(numpy) and _is_state(cpu)):
            raise ValueError("a generator's state is not what the generator gives")
        return cls(
            cast("_PythonState", python),
            cast("_NumpyState", numpy),
            cast("torch.Tensor", cpu),
            cast("torch.Tensor | tuple[torch.Tensor, ...] | None", cuda),
        )


def numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What `torch.load(weights_only=True)` has to know to read a numpy generator's state.

    Each is a class or a function that builds an array and nothing else. Files written under
    numpy 1 name the function by its older place.
    """
    reconstruct = cast("Callable[..., Any]", np.empty(0, np.uint32).__reduce__()[0])
    names = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
    return [np.ndarray, np.dtype, type(np.dtype(np.uint32)), *((reconstruct, n) for n in names)]


def _numpy_state() -> _NumpyState:
    state = np.random.get_state()  # noqa: NPY002 - the global generator is what users draw from
    return cast("_NumpyState", state)


def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple)


def _is_state(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.uint8
