"""Builds the loaders of training and evaluation from datasets, and says how long they are."""

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from runtime._collate import Collator, KeepColumns, log, no_column_left
from runtime._rank_data import Ending, RankBatches, RankStream, shared_data
from runtime._samplers import seeded
from runtime._world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """What the `dataloader_*` arguments say, under the names that torch has for it.

    Attributes:
        num_workers: Processes that fetch; with 0 the training thread does.
        pin_memory: Whether batches are made in pinned memory, where there is an accelerator.
        persistent_workers: Whether workers outlive an epoch.
        prefetch_factor: Batches that each worker keeps ready.
        drop_last: Whether a last batch that is not full is left out.
        in_order: Whether batches of several workers come in the samplers' order.
        multiprocessing_context: How workers are started.

    Raises:
        ValueError: There are no workers that an option is for.
    """

    num_workers: int = 0
    pin_memory: bool = True
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    drop_last: bool = False
    in_order: bool = True
    multiprocessing_context: str | None = None

    def __post_init__(self) -> None:
        if self.num_workers > 0:
            return
        for name in ("persistent_workers", "prefetch_factor", "multiprocessing_context"):
            value: object = getattr(self, name)
            if value:
                raise ValueError(
                    f"dataloader_{name}={value!r} is for workers, and dataloader_num_workers="
                    f"{self.num_workers} has none; set it to 1 or more, or leave out the other"
                )


def build_loader(
    dataset: Any,  # noqa: ANN401 - anything that torch's DataLoader takes
    *,
    batch_size: int,
    collator: Collator,
    options: LoaderOptions,
    sampler: Sampler[int] | Iterable[int] | None = None,
    seed: int | None = None,
    worker_init_fn: Callable[[int], None] | None = None,
    generator: torch.Generator | None = None,
    world: World = World(),  # noqa: B008 - it cannot change
    fills_up: bool = True,
) -> DataLoader[Any]:
    """Build a loader of batches, of this process's share where several train together.

    Args:
        dataset: Samples by index, or an iterable dataset, which goes in its own order.
        batch_size: Samples in a batch.
        collator: Makes a batch of a list of samples.
        options: How it is fetched.
        sampler: The order of samples by index. A plain `RandomSampler` is replaced by one whose
            order is given by seed and epoch.
        seed: That seed; by default what torch's global generator was last seeded with.
        worker_init_fn: Called first in each worker; not with an iterable dataset.
        generator: Where the workers' seed is drawn from; torch's global generator by default.
        world: Which process this is. A `DistributedSampler` is taken to know that itself.
        fills_up: Whether a last round of the processes is filled with samples from the epoch's
            beginning; otherwise it is left uneven.
    """
    by_index = not isinstance(dataset, IterableDataset)
    if by_index and isinstance(sampler, Sampler):
        sampler = seeded(sampler, seed)
    batches: RankBatches | None = None
    if not world.alone and not isinstance(sampler, DistributedSampler):
        ending: Ending = "filled" if fills_up else "uneven"
        if by_index:
            order = cast("Sampler[int]", sampler or SequentialSampler(dataset))
            ending = "dropped" if options.drop_last else ending
            batches = RankBatches(order, batch_size, world, ending=ending, seed=seed or 0)
        else:
            stream = cast("IterableDataset[Any]", dataset)
            dataset = RankStream(stream, batch_size, world, ending=ending)
    return DataLoader(
        cast("Dataset[Any]", dataset),
        batch_size=1 if batches is not None else batch_size,  # torch's word for: as it comes
        sampler=sampler if by_index and batches is None else None,
        batch_sampler=batches,
        collate_fn=collator,
        num_workers=options.num_workers,
        # Torch warns of pinned memory that no device would read.
        pin_memory=options.pin_memory and torch.accelerator.is_available(),
        # As upstream, an iterable dataset's last batch is kept.
        drop_last=options.drop_last and by_index and batches is None,
        worker_init_fn=worker_init_fn if by_index else None,
        multiprocessing_context=options.multiprocessing_context,
        persistent_workers=options.persistent_workers,
        prefetch_factor=options.prefetch_factor,
        in_order=options.in_order,
        generator=generator,
    )


class _Table(Protocol):
    """A dataset with named columns, such as `datasets.Dataset`."""

    column_names: list[str]

    def remove_columns(self, column_names: list[str]) -> object: ...


def without_unused_columns(
    dataset: object, collator: Collator, columns: Sequence[str], model: str
) -> tuple[object, Collator]:
    """Keep from the model what its `forward` does not take.

    A table drops the columns, so that they are not even read; of every other dataset the collator
    drops the keys.

    Args:
        dataset: The samples.
        collator: Makes a batch of them.
        columns: What to keep; see `wanted_columns`.
        model: The model's class name, for messages.

    Returns:
        The dataset and the collator to use.

    Raises:
        ValueError: No column of a table is left.
    """
    if not _is_table(dataset):
        return dataset, KeepColumns(collator, columns, model)
    unused = [name for name in dataset.column_names if name not in columns]
    if len(unused) == len(dataset.column_names):
        raise ValueError(no_column_left(model, ", ".join(unused), columns))
    if not unused:
        return dataset, collator
    log.info("%s.forward does not take and so is not given: %s", model, ", ".join(unused))
    return dataset.remove_columns(unused), collator


def _is_table(dataset: Any) -> TypeGuard[_Table]:  # noqa: ANN401 - users' datasets of any kind
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return False
    names = getattr(dataset, "column_names", None)
    return isinstance(names, list) and callable(getattr(dataset, "remove_columns", None))


def has_length(data: object) -> TypeGuard[Sized]:
    """Whether a dataset or loader knows its length; some have the method and refuse to answer."""
    try:
        len(cast("Sized", data))
    except (TypeError, AttributeError, NotImplementedError):
        return False
    return True


def count_samples(loader: object, batch_size: int) -> int:
    """How many samples a loader with a length has; by its batches if its dataset does not say."""
    dataset = shared_data(getattr(loader, "dataset", None))
    if has_length(dataset):
        return len(dataset)
    return len(cast("Sized", loader)) * batch_size
