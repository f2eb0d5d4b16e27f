"""Counts a model's floating-point operations by its parameters, and knows what GPUs can do at most.

A forward and a backward pass take about 6 operations for each token and each parameter outside the
embeddings: 2 forward, 4 backward; attention's own share, quadratic in the sequence's length, is
left out (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast, runtime_checkable

import torch

_FORWARD_AND_BACKWARD: Final = 6
_TERA: Final = 1e12


@runtime_checkable
class _CountsItself(Protocol):
    """What Transformers' models offer."""

    def num_parameters(self, *, exclude_embeddings: bool) -> int: ...


def non_embedding_parameters(model: torch.nn.Module) -> int:
    """How many numbers the model's parameters hold, weights of `torch.nn.Embedding` left out.

    A model with a `num_parameters` of its own is asked. A weight that an embedding shares counts
    where the model names it first.
    """
    if isinstance(model, _CountsItself):
        return model.num_parameters(exclude_embeddings=True)
    # torch leaves the generator's items untyped
    modules = cast("Iterator[tuple[str, torch.nn.Module]]", model.named_modules())
    embeddings = {
        f"{name}.weight" for name, each in modules if isinstance(each, torch.nn.Embedding)
    }
    named = model.named_parameters()
    return sum(weight.numel() for name, weight in named if name not in embeddings)


class FlopCounter:
    """Estimates the operations of training on a batch; the model is walked once, at the first.

    Args:
        model: What is trained. Parameters it gets or loses later do not change the count.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._input = str(getattr(model, "main_input_name", "input_ids"))
        # Looked up once: asking a protocol takes longer than everything else here.
        self._counts = isinstance(model, _CountsItself)
        self._per_token: int | None = None

    @property
    def per_token(self) -> int:
        """Operations of a forward and a backward pass over one token."""
        if self._per_token is None:
            self._per_token = _FORWARD_AND_BACKWARD * non_embedding_parameters(self._model)
        return self._per_token

    def of_batch(self, batch: object) -> int:
        """Operations of one batch, the number that Transformers adds to `total_flos`.

        Like there it is 0 unless the model has `num_parameters` and the batch is a mapping with
        the model's main input (`main_input_name`, by default "input_ids"), a tensor whose elements
        are the tokens. Only its shape is looked at.
        """
        if not self._counts or not isinstance(batch, Mapping):
            return 0
        tokens = cast("Mapping[str, object]", batch).get(self._input)
        return tokens.numel() * self.per_token if isinstance(tokens, torch.Tensor) else 0


@dataclass(frozen=True, slots=True)
class _Peak:
    """Dense operations in 10**12 a second, by precision; None where there is no such unit."""

    half: float
    bfloat: float | None
    tf32: float | None
    single: float


_PEAKS: Final = {
    # HGX B200, Blackwell platform data sheet (tensor cores are given there with sparsity: half it)
    r"NVIDIA B200": _Peak(2250, 2250, 1100, 75),
    # H100, H200 and GH200 data sheets; tensor cores with sparsity there
    r"NVIDIA H200|NVIDIA H100 80GB HBM3|NVIDIA GH200 \d+GB": _Peak(989.4, 989.4, 494.7, 67),
    r"NVIDIA H200 NVL|NVIDIA H100 NVL": _Peak(835.5, 835.5, 417.5, 60),
    r"NVIDIA H100 PCIe": _Peak(756, 756, 378, 51),
    # A100, A40, A30, A10 data sheets
    r"NVIDIA A100[- ].*": _Peak(312, 312, 156, 19.5),
    r"NVIDIA A40": _Peak(149.7, 149.7, 74.8, 37.4),
    r"NVIDIA A30": _Peak(165, 165, 82, 10.3),
    r"NVIDIA A10": _Peak(125, 125, 62.5, 31.2),
    # L40S, L40, L4 data sheets; the L4's tensor cores with sparsity there
    r"NVIDIA L40S": _Peak(362.05, 362.05, 183, 91.6),
    r"NVIDIA L40": _Peak(181.05, 181.05, 90.5, 90.5),
    r"NVIDIA L4": _Peak(121, 121, 60, 30.3),
    # Ada and Ampere GA102 white papers, half precision with 32-bit accumulation
    r"NVIDIA GeForce RTX 4090": _Peak(165.2, 165.2, 82.6, 82.6),
    r"NVIDIA GeForce RTX 3090": _Peak(71, 71, 35.6, 35.6),
    # V100 and T4 data sheets
    r"Tesla V100-SXM2-.*": _Peak(125, None, None, 15.7),
    r"Tesla V100-PCIE-.*": _Peak(112, None, None, 14),
    r"Tesla T4": _Peak(65, None, None, 8.1),
    # MI300X data sheet
    r"AMD Instinct MI300X.*": _Peak(1307.4, 1307.4, 653.7, 163.4),
}
"""By the name that `torch.cuda.get_device_name` gives, whole: a slice (MIG) of a GPU is not it."""


def peak_flops(device_name: str, dtype: torch.dtype, *, tf32: bool = False) -> float | None:
    """The most operations a second that a GPU can do in matrix products of a precision.

    Dense, from the vendor's data sheet. What training reaches of it is its utilisation (MFU).

    Args:
        device_name: As `torch.cuda.get_device_name()` gives it.
        dtype: What is multiplied; under autocast, autocast's.
        tf32: Whether `float32` is multiplied in TF32 (`torch.backends.cuda.matmul.allow_tf32`).

    Returns:
        Operations a second, or None for a GPU or precision that no table here knows.
    """
    matches = (peak for name, peak in _PEAKS.items() if re.fullmatch(name, device_name))
    found = next(matches, None)
    if found is None:
        return None
    by_dtype = {
        torch.float16: found.half,
        torch.bfloat16: found.bfloat,
        torch.float32: found.tf32 or found.single if tf32 else found.single,
    }
    tera = by_dtype.get(dtype)
    return None if tera is None else tera * _TERA
