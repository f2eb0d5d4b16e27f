"""Which part of a whole tensor a process holds: a box, known by where it begins and its size.

DTensors of torch tell it themselves, whatever their mesh; no data is looked at and nothing is
communicated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a tensor.

    Attributes:
        offset: Where it begins, by dimension.
        shape: Its size.
        whole: The size of what it is a part of.
    """

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]

    @classmethod
    def all_of(cls, shape: Sequence[int]) -> "Box":
        """The box that is everything."""
        return cls((0,) * len(shape), tuple(shape), tuple(shape))

    @property
    def size(self) -> int:
        """Elements in it."""
        return _product(self.shape)

    def slices(self, origin: "Box | None" = None) -> tuple[slice, ...]:
        """Where it is in the whole, or in another box that contains it."""
        shift = (0,) * len(self.offset) if origin is None else origin.offset
        return tuple(
            slice(begin - other, begin - other + length)
            for begin, length, other in zip(self.offset, self.shape, shift, strict=True)
        )

    def overlap(self, other: "Box") -> "Box | None":
        """What two parts of one tensor have in common; None if that is nothing."""
        begin = tuple(map(max, self.offset, other.offset))
        ends = tuple(
            min(one + length, two + width)
            for one, length, two, width in zip(
                self.offset, self.shape, other.offset, other.shape, strict=True
            )
        )
        shape = tuple(end - start for start, end in zip(begin, ends, strict=True))
        return None if any(length <= 0 for length in shape) else Box(begin, shape, self.whole)


def is_distributed(tensor: object) -> "TypeGuard[Any]":
    """Whether a tensor is a DTensor, one of which each process of a mesh holds a part.

    Asked by name, for torch.distributed.tensor takes a second to import.
    """
    return isinstance(tensor, torch.Tensor) and hasattr(tensor, "full_tensor")


def is_replicated(tensor: object) -> bool:
    """Whether every process holds the whole of a DTensor."""
    placements = cast("Any", tensor).placements
    return bool(placements) and all(each.is_replicate() for each in placements)


def replicated_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a DTensor that is whole everywhere; any other tensor as it is."""
    whole = is_distributed(tensor) and hasattr(tensor, "placements") and is_replicated(tensor)
    return local_part(tensor) if whole else tensor


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, sharing its memory; all of it if it is no DTensor."""
    plain = tensor.detach()
    return cast("torch.Tensor", plain.to_local()) if is_distributed(plain) else plain


def box_of(tensor: torch.Tensor) -> Box:
    """The part of a tensor that this process holds; all of it unless it is a sharded DTensor.

    Raises:
        ValueError: It holds no one part: a partial sum, or several pieces.
    """
    if not is_distributed(tensor):
        return Box.all_of(tensor.shape)
    if any(placement.is_partial() for placement in tensor.placements):
        raise ValueError("each process holds a summand of it")
    chunks = tensor.__create_chunk_list__()  # as torch's distributed checkpoints ask for it
    if len(chunks) > 1:
        raise ValueError("a process holds several pieces of it")
    local, whole = tuple(tensor.to_local().shape), tuple(tensor.shape)
    offset = tuple(chunks[0].offsets) if chunks else (0,) * len(whole)
    return Box(offset, local, whole)


def _product(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
