"""Shares out the samples of an epoch among the processes that train together.

In each round every process takes its batch of `batch_size` samples from the next `batch_size * N`
of one order, rank by rank: together they see what one process with batches of that size sees. The
end is as in accelerate (1.15, `even_batches`): training fills the last round with samples from the
epoch's beginning, so that every process takes equally many steps; evaluation leaves it uneven.
"""

from collections.abc import Iterator, Mapping, Sized
from itertools import cycle, islice
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import torch
from torch.utils.data import IterableDataset, Sampler

from runtime._world import World

SampleT = TypeVar("SampleT")

Ending: TypeAlias = Literal["filled", "dropped", "uneven"]
"""What becomes of a last round that is not full."""

_SEEDS: Final = 2**63


class RankBatches(Sampler[list[int]]):
    """The batches of one process, as lists of indices.

    Args:
        sampler: The order of all samples. What it draws from torch's global generator when it is
            iterated is drawn from `seed + epoch` instead, so that all processes have one order.
        batch_size: Samples of a batch of each process.
        world: Which process this is.
        ending: What becomes of a last round that is not full.
        seed: The same in all processes.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        world: World,
        *,
        ending: Ending,
        seed: int,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = ending == "dropped"
        self._world = world
        self._ending: Ending = ending
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        total, whole = len(cast("Sized", self.sampler)), self._world.size * self.batch_size
        full, rest = divmod(total, whole)
        if self._ending == "dropped":
            return full
        own = rest > self._world.rank * self.batch_size
        return full + (own if self._ending == "uneven" else rest > 0)

    def __iter__(self) -> Iterator[list[int]]:
        whole = self._world.size * self.batch_size
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType] - torch
            torch.default_generator.manual_seed((self._seed + self._epoch) % _SEEDS)
            order = iter(self.sampler)
            first = list(islice(order, whole))  # samplers draw no later than here
        for part in _rounds(first, order, whole, self._ending):
            own = _share(part, self.batch_size, self._world)
            if own:
                yield own


class RankStream(IterableDataset[Any]):
    """The samples of one process from data that every process reads from beginning to end.

    Inside a worker it shares out what the worker reads, so data may still be split by worker.
    Every process has to read the same samples in the same order.

    Args:
        dataset: The data.
        batch_size: Samples of a batch of each process.
        world: Which process this is.
        ending: What becomes of a last round that is not full.

    Attributes:
        dataset: The data.
    """

    def __init__(
        self, dataset: "IterableDataset[Any]", batch_size: int, world: World, *, ending: Ending
    ) -> None:
        self.dataset = dataset
        self._batch_size = batch_size
        self._world = world
        self._ending: Ending = ending
        if all(callable(getattr(dataset, name, None)) for name in _STATEFUL):
            self.state_dict = self._state_dict
            self.load_state_dict = self._load_state_dict

    def set_epoch(self, epoch: int) -> None:
        """Tell the data which epoch comes next, if it wants to know."""
        tell = getattr(self.dataset, "set_epoch", None)
        if callable(tell):
            tell(epoch)

    def __len__(self) -> int:
        total = len(cast("Sized", self.dataset))
        whole = self._world.size * self._batch_size
        full, rest = divmod(total, whole)
        if self._ending == "filled":
            return (full + (rest > 0)) * self._batch_size
        own = rest - self._world.rank * self._batch_size if self._ending == "uneven" else 0
        return full * self._batch_size + min(max(own, 0), self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        whole = self._world.size * self._batch_size
        samples = iter(self.dataset)
        first = list(islice(samples, whole))
        for part in _rounds(first, samples, whole, self._ending):
            yield from _share(part, self._batch_size, self._world)

    def _state_dict(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", cast("Any", self.dataset).state_dict())

    def _load_state_dict(self, state: Mapping[str, Any]) -> None:
        cast("Any", self.dataset).load_state_dict(state)


def shared_data(dataset: object) -> object:
    """The data that all processes share, given what one of them reads."""
    return dataset.dataset if isinstance(dataset, RankStream) else dataset


_STATEFUL: Final = ("state_dict", "load_state_dict")


def _rounds(
    first: list[SampleT], rest: Iterator[SampleT], whole: int, ending: Ending
) -> Iterator[list[SampleT]]:
    """The samples of all processes together, round by round."""
    part = first
    while len(part) == whole:
        yield part
        part = list(islice(rest, whole))
    if not part or ending == "dropped":
        return
    if ending == "filled":
        part = [*part, *islice(cycle(first), whole - len(part))]
    yield part


def _share(part: list[SampleT], size: int, world: World) -> list[SampleT]:
    return part[world.rank * size : (world.rank + 1) * size]
