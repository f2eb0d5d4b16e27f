"""The order in which an epoch visits its samples.

For the same seed and epoch it is the order of Transformers' Trainer (5.23, with accelerate 1.15):
a random order comes from a generator of its own, seeded anew for each epoch, so it depends on
nothing that training draws; grouping by length draws from torch's global generator.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, Final, cast

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

_GROUPS: Final = 4
_BATCHES_A_GROUP: Final = 50
"""Samples are sorted within groups: at least 4 of them, of at most 50 batches each."""

_INPUT: Final = "input_ids"


class EpochRandomSampler(RandomSampler):
    """Visits every sample once, in an order given by seed and epoch alone.

    Args:
        data_source: What is sampled from; it needs a length.
        seed: Epoch e is shuffled with `seed + e`.
        replacement: Whether a sample may be drawn again.
        num_samples: How many samples an epoch has; all of them by default.

    Attributes:
        epoch: The epoch whose order comes next; goes up by itself after a complete pass.
    """

    def __init__(
        self,
        data_source: Sized,
        *,
        seed: int,
        replacement: bool = False,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(data_source, replacement=replacement, num_samples=num_samples)  # pyright: ignore[reportUnknownMemberType] - torch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from super().__iter__()
        self.epoch += 1


class LengthGroupedSampler(Sampler[int]):
    """Visits samples of similar length together, so that little is padded.

    A random order is cut into groups, each is sorted by length, longest first, and the longest
    sample of all comes first, so that a batch too large for the memory shows at once.

    Args:
        lengths: The length of each sample.
        batch_size: Samples that should be similar: those of one optimizer step.
        generator: Where the order is drawn from; torch's global generator by default.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, generator: torch.Generator | None = None
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._generator = generator

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        lengths, count = self._lengths, len(self._lengths)
        batches = max(min(count // (self._batch_size * _GROUPS), _BATCHES_A_GROUP), 1)
        size = batches * self._batch_size
        drawn = torch.randperm(count, generator=self._generator, device="cpu")
        order = cast("list[int]", drawn.tolist())  # pyright: ignore[reportUnknownMemberType] - torch
        groups = [
            sorted(order[first : first + size], key=lengths.__getitem__, reverse=True)
            for first in range(0, count, size)
        ]
        if groups:
            longest = max(groups, key=lambda group: lengths[group[0]])
            groups[0][0], longest[0] = longest[0], groups[0][0]
        return iter([index for group in groups for index in group])


def sample_lengths(dataset: object, *, column: str, input_name: str | None) -> list[int]:
    """The length of every sample: a column of them, or counted from the samples themselves.

    Args:
        dataset: Samples by index, with a length. One with `column_names` may hold the lengths.
        column: The name of that column.
        input_name: The key whose length is a sample's; `input_ids` by default.

    Raises:
        ValueError: The samples have no such key.
    """
    names: object = getattr(dataset, "column_names", None)
    if isinstance(names, (list, tuple)) and column in names:
        return [int(length) for length in cast("Mapping[str, Sequence[int]]", dataset)[column]]
    key = input_name or _INPUT
    samples = cast("Sequence[Mapping[str, Sized]]", dataset)
    count = len(samples)
    first = cast("Any", samples[0]) if count else {key: ()}
    named: dict[str, Sized] = {}
    if isinstance(first, Mapping):
        named.update(cast("Mapping[str, Sized]", first))
    if key not in named:
        keys = ", ".join(map(str, named)) or "no keys"
        raise ValueError(
            f"train_sampling_strategy='group_by_length' needs the length of each sample, but a "
            f"sample (with {keys}) has no {key!r}; give the dataset a "
            f"column {column!r} (length_column_name), or choose another strategy"
        )
    return [len(samples[index][key]) for index in range(count)]


def train_sampler(
    dataset: Sized,
    strategy: str,
    *,
    seed: int | None,
    step_size: int,
    length_column: str = "length",
    input_name: str | None = None,
) -> Sampler[int]:
    """The sampler of a training epoch.

    Args:
        dataset: Samples by index, with a length.
        strategy: "random", "sequential" or "group_by_length".
        seed: Where random orders begin; by default what torch's global generator was last seeded
            with.
        step_size: Samples of one optimizer step, which are to be of similar length.
        length_column: The column of a dataset's lengths, where it has one.
        input_name: The key whose length is a sample's, where there is no such column.

    Raises:
        ValueError: There is no such strategy, or lengths cannot be found.
    """
    if strategy == "random":
        return EpochRandomSampler(dataset, seed=torch.initial_seed() if seed is None else seed)
    if strategy == "sequential":
        return SequentialSampler(dataset)
    if strategy == "group_by_length":
        lengths = sample_lengths(dataset, column=length_column, input_name=input_name)
        return LengthGroupedSampler(lengths, step_size)
    raise ValueError(
        f"train_sampling_strategy={strategy!r} must be random, sequential or group_by_length"
    )


def eval_sampler(
    dataset: Sized,
    strategy: str,
    *,
    seed: int,
    batch_size: int,
    length_column: str = "length",
    input_name: str | None = None,
) -> Sampler[int]:
    """The sampler of an evaluation: in order, or by length where training goes by length.

    The arguments are those of `train_sampler`. Grouping draws from a generator of its own, which
    goes on from one evaluation to the next.
    """
    if strategy != "group_by_length":
        return SequentialSampler(dataset)
    lengths = sample_lengths(dataset, column=length_column, input_name=input_name)
    return LengthGroupedSampler(lengths, batch_size, torch.Generator().manual_seed(seed))


def seeded(sampler: "Sampler[int] | None", seed: int | None) -> "Sampler[int] | None":
    """Give a plain `RandomSampler` an order by seed and epoch; leave every other sampler alone.

    Args:
        sampler: A user's sampler, or None.
        seed: As in `train_sampler`.
    """
    if not isinstance(sampler, RandomSampler) or isinstance(sampler, EpochRandomSampler):
        return sampler
    return EpochRandomSampler(
        sampler.data_source,
        seed=torch.initial_seed() if seed is None else seed,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,  # noqa: SLF001 - the public name hides "all" # pyright: ignore[reportPrivateUsage]
    )
