"""Norms and histograms of tensors, computed where the tensors are.

Nothing here reads a value on the host: sizes of bins follow from the largest value on the device
and leave it together with the counts.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final, cast

import torch

BINS: Final = 64
"""Bins of a histogram; an even number, so that zero is an edge."""

_CHUNK: Final = 2**24
"""Elements looked at together: bounds the temporary memory, and float32 counts so far exactly."""


def norms(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The 2-norm of each tensor, in float32 at least, whatever the tensor's own precision.

    A kernel or two for all tensors of one device and precision together.

    Args:
        tensors: Real floating-point tensors by name, on any devices.
    """
    found: dict[str, torch.Tensor] = {}
    for names in _alike(tensors):
        group = [tensors[name] for name in names]
        each = torch._foreach_norm(group, 2, dtype=_precise(group[0].dtype))  # noqa: SLF001 - no public name # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        found.update(zip(names, each, strict=True))
    return found


def total_norm(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The 2-norm of all tensors together from the norm of each, at least one.

    On one device of theirs: an accelerator before the host, because the way to the host waits.
    """
    each = list(parts)
    home = next((part.device for part in each if part.device.type != "cpu"), each[0].device)
    dtype = max((part.dtype for part in each), key=lambda dtype: dtype.itemsize)
    packed = torch.stack([part.to(home, dtype, non_blocking=True) for part in each])
    total = torch.linalg.vector_norm(packed)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - torch
    return cast("torch.Tensor", total)


def histogram(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Count a tensor's finite values in `BINS` equal bins from -peak to peak.

    Deterministic, under `torch.use_deterministic_algorithms` too.

    Args:
        tensor: Real, floating-point, not empty.

    Returns:
        The counts, and the peak: the largest finite magnitude, or the smallest normal number if
        that is less.
    """
    dtype = _precise(tensor.dtype)
    chunks = torch.split(tensor.reshape(-1), _CHUNK)
    peaks = [chunk.nan_to_num(0.0, 0.0, 0.0).abs().amax().to(dtype) for chunk in chunks]
    peak = torch.stack(peaks).amax().clamp_min(torch.finfo(dtype).tiny)
    counts = torch.stack([_count(chunk.to(dtype) / peak) for chunk in chunks])
    return counts.sum(dim=0), peak


def _count(scaled: torch.Tensor) -> torch.Tensor:
    """Count values from -1 to 1; others, and what is not a number, are passed over."""
    if not torch.are_deterministic_algorithms_enabled():
        return torch.histc(scaled, BINS, -1.0, 1.0).to(torch.int64)
    # On CUDA histc refuses then, its additions being in no fixed order; these are of integers.
    inside = scaled.abs() <= 1
    bins = ((scaled.nan_to_num(0.0) + 1) * (BINS // 2)).clamp(0, BINS - 1).to(torch.int64)
    counts = torch.zeros(BINS, dtype=torch.int64, device=scaled.device)
    return counts.scatter_add_(0, bins, inside.to(torch.int64))


def edges(peak: float) -> list[float]:
    """The bins' limits, in the order of the counts."""
    return [peak * (2 * number / BINS - 1) for number in range(BINS + 1)]


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _alike(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of tensors that share device and precision."""

    def place(name: str) -> tuple[str, str]:
        return str(tensors[name].device), str(tensors[name].dtype)

    ordered = sorted(tensors, key=place)
    return [list(names) for _, names in groupby(ordered, key=place)]
