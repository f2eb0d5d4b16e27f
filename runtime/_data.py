"""Feeds an epoch to the loop, in the groups of micro-batches that one optimizer step takes.

`EpochFeed` is also where a resumed epoch goes on: `begin` with a number of batches to skip brings
every order to where an unbroken epoch had it. For that, its caller restores the generators twice:
before `begin` to their state at the epoch's beginning, after it to that of the checkpoint.

- Samples by index, fetched by this process: only indices are drawn, nothing is loaded.
- Workers: skipped batches are fetched, since they move the workers' generators on. Workers that
  persist have generators with a history of several epochs, which cannot be had again: a dataset
  that draws random numbers in them is not repeated exactly.
- Iterable data is read and thrown away, unless it or its loader has `state_dict` and
  `load_state_dict`: then it is put where it was, with the state that `EpochFeed.state_dict` gave.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

import torch
from torch.utils.data import DataLoader, IterableDataset

from runtime._loaders import has_length

IGNORED_LABEL: Final = -100
"""The label of a position that no loss counts; `torch.nn.CrossEntropyLoss` has it by default."""


class EpochFeed:
    """The micro-batches of one epoch after the other.

    Args:
        loader: Any iterable of batches, such as a `DataLoader`.
        accumulation: Micro-batches of one optimizer step.
        device: Where batches go.

    Attributes:
        batches: Batches of an epoch; None if the loader does not know.
        taken: Batches of this epoch so far, skipped ones included.
        waited: Seconds spent waiting for batches since the feed was made.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        *,
        accumulation: int = 1,
        device: torch.device | None = None,
    ) -> None:
        sized: object = loader
        self.batches: int | None = len(sized) if has_length(sized) else None
        self.taken: int = 0
        self.waited: float = 0.0
        self._loader = loader
        self._accumulation = accumulation
        self._device = device
        self._batches: Iterator[Any] = iter(())

    def begin(self, epoch: int, *, skip: int = 0, state: Mapping[str, Any] | None = None) -> None:
        """Begin an epoch, or go on with one.

        Args:
            epoch: Counted from 0; told to whatever has `set_epoch`.
            skip: Batches of it that are done.
            state: What `state_dict` gave when they were; replaces the skipping.

        Raises:
            ValueError: There is a state, but the data cannot take it.
        """
        self.close()
        _set_epoch(self._loader, epoch)
        began = time.perf_counter()
        if state is not None:
            _load_state(self._loader, state)
            self._batches = iter(self._loader)
        else:
            self._batches = _skipped(self._loader, skip) if skip else iter(self._loader)
        self.taken = skip
        self.waited += time.perf_counter() - began

    def next_group(self) -> list[Any]:
        """The micro-batches of the next optimizer step, on the device.

        The last group of an epoch may be smaller; after it, the group is empty.
        """
        wanted = self._accumulation
        if self.batches is not None:
            # Not one more than the loader said: iterable data may have more than its length.
            wanted = min(wanted, self.batches - self.taken)
        began = time.perf_counter()
        group = list(islice(self._batches, max(wanted, 0)))
        self.waited += time.perf_counter() - began
        self.taken += len(group)
        device = self._device
        return group if device is None else [move_to_device(batch, device) for batch in group]

    def state_dict(self) -> dict[str, Any] | None:
        """Where iterable data is, if it can tell; None if it is found again by skipping."""
        found = _stateful(self._loader)
        return None if found is None else {found[0]: found[1].state_dict()}

    def close(self) -> None:
        """Let go of an epoch that is not read to its end, workers included."""
        self._batches = iter(())


def move_to_device(batch: Any, device: torch.device) -> Any:  # noqa: ANN401 - nested tensors of any kind
    """Move the tensors of a batch, without waiting for a GPU.

    Args:
        batch: Tensors in mappings, lists and tuples of any depth, or objects with a `to`;
            everything else stays as it is.
        device: Where to.

    Returns:
        A batch of the same structure.
    """
    if isinstance(batch, torch.Tensor):
        if batch.device == device:  # a third of what `to` costs to find out the same
            return batch
        # From pageable memory too: CUDA then stages the bytes before the call returns.
        return batch.to(device, non_blocking=device.type == "cuda")
    make = cast("Callable[[object], Any]", type(batch))
    if callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, Mapping):
        entries = cast("Mapping[str, Any]", batch)
        moved = {key: move_to_device(value, device) for key, value in entries.items()}
        return moved if make is dict else make(moved)
    if isinstance(batch, (list, tuple)):
        parts = [move_to_device(part, device) for part in cast("list[Any]", batch)]
        return getattr(make, "_make", make)(parts)  # named tuples take their parts one by one
    return batch


def count_labels(batches: list[Any], *, shifted: bool = False) -> torch.Tensor | None:
    """How many labels count in a group of batches, as a number on their device.

    A loss that is summed and divided by it weighs every label of an optimizer step alike, however
    they are spread over its micro-batches.

    Args:
        batches: Mappings with `labels`, or `shift_labels` if they are shifted already.
        shifted: Whether the loss compares position i with label i + 1, so that the first label
            of each row is no target.

    Returns:
        A float tensor with one element, which nothing has waited for; None if the batches have no
        such labels.
    """
    counts: list[torch.Tensor] = []
    for batch in batches:
        if not isinstance(batch, Mapping) or "labels" not in batch:
            return None
        named = cast("Mapping[str, Any]", batch)
        own = named.get("shift_labels")
        labels = named["labels"] if own is None else own
        if not isinstance(labels, torch.Tensor):
            return None
        if shifted and own is None:
            labels = labels[..., 1:]
        counts.append(labels.ne(IGNORED_LABEL).sum())
    if not counts:
        return None
    return torch.stack(counts).sum().to(torch.float) if len(counts) > 1 else counts[0].float()


def _parts(loader: object) -> list[Any]:
    """A loader and what it is made of, each once."""
    found: list[object] = [loader]
    for name in ("batch_sampler", "sampler", "dataset"):
        part: object = getattr(loader, name, None)
        found += [part, getattr(part, "batch_sampler", None), getattr(part, "sampler", None)]
    return list({id(part): part for part in found if part is not None}.values())


def _set_epoch(loader: object, epoch: int) -> None:
    for part in _parts(loader):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def _stateful(loader: object) -> tuple[str, Any] | None:
    """What can be put back where it was: the loader itself, or iterable data in this process."""
    if _has_state(loader):
        return "loader", loader
    dataset: object = getattr(loader, "dataset", None)
    here = getattr(loader, "num_workers", 0) == 0
    if here and isinstance(dataset, IterableDataset) and _has_state(cast("object", dataset)):
        return "dataset", cast("Any", dataset)
    return None


def _has_state(part: object) -> bool:
    return all(callable(getattr(part, name, None)) for name in ("state_dict", "load_state_dict"))


def _load_state(loader: object, state: Mapping[str, Any]) -> None:
    found = _stateful(loader)
    if found is None or found[0] not in state:
        raise ValueError(
            f"the checkpoint holds the place in the data of the {' and '.join(state)}, which now "
            "has no load_state_dict (or is read by workers); resume with the data it was made "
            "with, or set ignore_data_skip=True to begin the epoch's data anew"
        )
    found[1].load_state_dict(state[found[0]])


def _skipped(loader: Iterable[Any], count: int) -> Iterator[Any]:
    """An epoch's batches after the first `count`."""
    if _is_indexed_here(loader):
        plain = cast("Any", loader)
        rest = _Rest(plain.batch_sampler)
        same = DataLoader[Any](
            plain.dataset,
            batch_sampler=rest,
            collate_fn=plain.collate_fn,
            pin_memory=plain.pin_memory,
            generator=plain.generator,
        )
        # The loader draws its seed when iterated, before the sampler draws its order.
        batches = iter(same)
        rest.skip(count)
        return batches
    fetched = iter(loader)
    for _ in islice(fetched, count):
        pass
    return fetched


def _is_indexed_here(loader: Any) -> bool:  # noqa: ANN401 - users' loaders of any kind
    """Whether it is a plain loader of samples by index that this process fetches itself."""
    own_way = cast("Any", type(loader)).__iter__ is not cast("Any", DataLoader).__iter__
    if not isinstance(loader, DataLoader) or own_way or loader.num_workers:
        return False
    plain = cast("Any", loader)
    return plain.batch_sampler is not None and not isinstance(plain.dataset, IterableDataset)


class _Rest:
    """A batch sampler of which some batches can be skipped as soon as it is iterated."""

    def __init__(self, sampler: Iterable[list[int]]) -> None:
        self._sampler = sampler
        self._indices: Iterator[list[int]] = iter(())

    def __iter__(self) -> Iterator[list[int]]:
        self._indices = iter(self._sampler)
        return self._indices

    def skip(self, count: int) -> None:
        for _ in islice(self._indices, count):
            pass
