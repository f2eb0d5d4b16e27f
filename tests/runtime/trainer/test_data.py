"""Feeding epochs: groups, counts, devices, and going on where a checkpoint was."""

import random
from collections import OrderedDict
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from runtime._data import EpochFeed, count_labels, move_to_device
from runtime._loaders import (
    LoaderOptions,
    build_loader,
    count_samples,
    has_length,
    without_unused_columns,
)
from runtime._samplers import train_sampler

META = torch.device("meta")


class Augmented(Dataset):
    """Samples that draw from all three generators when they are read."""

    def __init__(self, count):
        self.count = count
        self.reads = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        return index + random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002, S311


class Stream(IterableDataset):
    """Numbers in order, without a length."""

    def __init__(self, count):
        self.count = count
        self.reads = 0

    def __iter__(self):
        for index in range(self.count):
            self.reads += 1
            yield index


class Resumable(IterableDataset):
    """A stream that knows where it is."""

    def __init__(self, count):
        self.count = count
        self.place = 0
        self.reads = 0

    def __iter__(self):
        while self.place < self.count:
            self.place += 1
            self.reads += 1
            yield self.place - 1
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Named(NamedTuple):
    """A batch whose parts have names."""

    x: torch.Tensor
    y: list


def seed(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - what users' transforms draw from
    torch.manual_seed(value)


def generators():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def restore(states):
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


def loader_of(dataset, *, strategy="random", batch_size=2, **options):
    sampler = None
    if not isinstance(dataset, IterableDataset):
        sampler = train_sampler(dataset, strategy, seed=None, step_size=batch_size)
    return build_loader(
        dataset,
        batch_size=batch_size,
        collator=torch.tensor,
        options=LoaderOptions(**options),
        sampler=sampler,
    )


def epoch_of(feed):
    """The rest of an epoch, each group followed by a training step that draws a number."""
    groups = []
    while group := feed.next_group():
        groups.append([batch.tolist() for batch in group])
        torch.rand(1)
    return groups


def numbers(groups):
    return [number for group in groups for batch in group for number in batch]


def test_groups():
    """A group has the batches of one optimizer step, the last one what is left."""
    feed = EpochFeed(loader_of(Stream(15)), accumulation=3)
    for epoch in range(2):
        feed.begin(epoch)
        groups = epoch_of(feed)

        assert [len(group) for group in groups] == [3, 3, 2]
        assert numbers(groups) == list(range(15))
        assert feed.taken == 8
        assert feed.next_group() == []
    assert feed.batches is None


def test_no_more_than_the_length():
    """Of iterable data that says its length, no more than that is read."""
    stream = Stream(100)
    stream.__class__ = type("Sized", (Stream,), {"__len__": lambda _: 10})
    feed = EpochFeed(loader_of(stream), accumulation=3)
    feed.begin(0)

    assert [len(group) for group in epoch_of(feed)] == [3, 2]
    assert feed.batches == 5
    assert stream.reads == 10


def test_before_it_begins():
    """A feed that was not begun, or was closed, has nothing."""
    feed = EpochFeed([1, 2])

    assert feed.next_group() == []
    feed.begin(0)
    assert feed.next_group() == [1]
    feed.close()
    assert feed.next_group() == []


def test_any_iterable_is_a_loader():
    """Lists of batches will do, with or without skipping."""
    feed = EpochFeed([1, 2, 3], accumulation=2)
    feed.begin(0, skip=1)

    assert feed.next_group() == [2, 3]
    assert feed.batches == feed.taken == 3


@pytest.mark.parametrize("strategy", ["random", "sequential"])
@pytest.mark.parametrize("done", [1, 2, 4])
def test_resuming_reads_nothing_again(strategy, done):
    """Skipped batches are never read, and the rest is bit-equal, random augmentation included."""
    seed(3)
    whole = EpochFeed(loader_of(Augmented(19), strategy=strategy), accumulation=2)
    began = generators()
    whole.begin(4)
    for _ in range(done):
        whole.next_group()
        torch.rand(1)
    saved = generators()
    rest = epoch_of(whole)

    seed(3)
    again = Augmented(19)
    feed = EpochFeed(loader_of(again, strategy=strategy), accumulation=2)
    restore(began)
    feed.begin(4, skip=2 * done)
    assert again.reads == 0
    restore(saved)

    assert epoch_of(feed) == rest
    assert feed.taken == 10


def test_resuming_an_order_drawn_from_the_global_generator():
    """A user's shuffling loader goes on too, if the generators begin where the epoch began."""
    seed(3)
    began = generators()
    whole = EpochFeed(DataLoader(Augmented(19), batch_size=2, shuffle=True))
    whole.begin(0)
    for _ in range(3):
        whole.next_group()
    saved = generators()
    rest = epoch_of(whole)

    restore(began)
    feed = EpochFeed(DataLoader(Augmented(19), batch_size=2, shuffle=True))
    feed.begin(0, skip=3)
    restore(saved)

    assert epoch_of(feed) == rest


def test_resuming_with_workers():
    """Workers read what is skipped, which moves their generators to where they were."""
    seed(3)
    began = generators()
    whole = EpochFeed(loader_of(Augmented(17), num_workers=2), accumulation=2)
    whole.begin(1)
    whole.next_group()
    saved = generators()
    rest = epoch_of(whole)

    restore(began)
    feed = EpochFeed(loader_of(Augmented(17), num_workers=2), accumulation=2)
    feed.begin(1, skip=2)
    restore(saved)

    assert epoch_of(feed) == rest


def test_resuming_a_stream():
    """Data that cannot tell where it is is read again up to the place."""
    stream = Stream(9)
    feed = EpochFeed(loader_of(stream), accumulation=2)
    assert feed.state_dict() is None
    feed.begin(0, skip=2)

    assert stream.reads == 4
    assert numbers(epoch_of(feed)) == [4, 5, 6, 7, 8]


def test_resuming_a_stream_that_knows_its_place():
    """Data with a state is put where it was, and nothing is read again."""
    first = EpochFeed(loader_of(Resumable(9)), accumulation=2)
    first.begin(0)
    first.next_group()
    state = first.state_dict()
    stream = Resumable(9)
    feed = EpochFeed(loader_of(stream), accumulation=2)
    feed.begin(0, skip=2, state=state)

    assert state == {"dataset": {"place": 4}}
    assert numbers(epoch_of(feed)) == [4, 5, 6, 7, 8]
    assert stream.reads == 5
    assert feed.taken == 5


def test_a_loader_that_knows_its_place():
    """A loader with a state, such as torchdata's, goes before its dataset."""

    class Stateful:
        def __init__(self, place):
            self.place = place

        def __iter__(self):
            return iter(range(self.place, 4))

        def state_dict(self):
            return self.place

        def load_state_dict(self, place):
            self.place = place

    feed = EpochFeed(Stateful(0))
    feed.begin(0, skip=3, state=EpochFeed(Stateful(3)).state_dict())

    assert [feed.next_group(), feed.next_group()] == [[3], []]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_state_that_nothing_takes(workers):
    """The state of other data is refused with the way out."""
    data = Resumable(4) if workers else Stream(4)
    feed = EpochFeed(loader_of(data, num_workers=workers))

    with pytest.raises(ValueError, match=r"of the dataset, which now has no .* ignore_data_skip"):
        feed.begin(0, skip=1, state={"dataset": {"place": 2}})


def test_everything_is_told_the_epoch():
    """Loader, samplers and dataset, each once."""
    told = []

    class Part(SimpleNamespace):
        def __iter__(self):
            return iter(())

        def set_epoch(self, epoch):
            told.append((self.name, epoch))

    sampler = Part(name="sampler")
    batches = Part(name="batch sampler", sampler=sampler)
    loader = Part(
        name="loader", batch_sampler=batches, sampler=sampler, dataset=Part(name="dataset")
    )
    EpochFeed(loader).begin(7)

    assert sorted(told) == [
        ("batch sampler", 7),
        ("dataset", 7),
        ("loader", 7),
        ("sampler", 7),
    ]


def test_waiting_is_counted():
    """Seconds spent waiting for batches add up over epochs."""

    class Slow:
        def __iter__(self):
            for number in range(3):
                sum(range(200_000))
                yield number

    feed = EpochFeed(Slow())
    waits = [feed.waited]
    for epoch in range(2):
        feed.begin(epoch)
        while feed.next_group():
            waits.append(feed.waited)

    assert waits == sorted(set(waits))
    assert len(waits) == 7


def test_batches_go_to_the_device():
    """The feed moves every batch of a group."""
    feed = EpochFeed([{"x": torch.ones(1)}], device=META)
    feed.begin(0)

    assert feed.next_group()[0]["x"].device == META


def test_moving():
    """Tensors move wherever they are; structure and everything else stay."""

    class Custom:
        def to(self, device):
            return f"on {device}"

    x = torch.ones(1)
    batch = {"a": [x, (x, "text")], "b": Named(x, [x]), "c": OrderedDict(d=x), "e": Custom()}
    moved = move_to_device(batch, META)

    assert moved["a"][0].device == moved["a"][1][0].device == META
    assert moved["a"][1][1] == "text"
    assert isinstance(moved["b"], Named)
    assert moved["b"].y[0].device == META
    assert isinstance(moved["c"], OrderedDict)
    assert moved["e"] == "on meta"


def test_counting_labels():
    """Labels of -100 do not count, nor the first of a row where the loss shifts them."""
    labels = torch.tensor([[1, -100, 2], [-100, -100, 3]])
    batches = [{"labels": labels}, {"labels": labels[:1]}]

    assert count_labels(batches) == 5
    assert count_labels(batches, shifted=True) == 3
    assert count_labels([{"labels": labels, "shift_labels": labels}], shifted=True) == 3
    assert count_labels(batches).dtype == torch.float32


@pytest.mark.parametrize("batches", [[], [{"x": 1}], [(1, 2)], [{"labels": [{"boxes": 1}]}]])
def test_nothing_to_count(batches):
    """Batches without a tensor of labels are not counted."""
    assert count_labels(batches) is None


class Unreadable(torch.Tensor):
    """A tensor that the host may not read."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in {"item", "cpu", "tolist", "numpy", "__bool__", "__int__", "__float__"}
        return super().__torch_function__(function, types, args, kwargs or {})


def test_counting_reads_nothing():
    """The count is computed where the labels are; the host does not look at it."""
    labels = torch.ones(2, 3).as_subclass(Unreadable)

    assert isinstance(count_labels([{"labels": labels}] * 2, shifted=True), Unreadable)


class Table:
    """A dataset with columns that counts what is removed."""

    def __init__(self, columns):
        self.column_names = columns

    def __getitem__(self, index):
        return dict.fromkeys(self.column_names, index)

    def remove_columns(self, names):
        return Table([name for name in self.column_names if name not in names])


def test_columns_of_a_table_are_not_read():
    """A table drops what the model does not take, so that it is not even read."""
    table, collator = without_unused_columns(
        Table(["x", "text", "label"]), list, ["x", "label"], "M"
    )
    same, _ = without_unused_columns(table, list, ["x", "label"], "M")

    assert table.column_names == ["x", "label"]
    assert collator is list
    assert same is table
    with pytest.raises(ValueError, match=r"no column of the data \(x, label\) is an argument of M"):
        without_unused_columns(table, list, ["y"], "M")


def test_columns_of_other_data():
    """Keys of any other data are dropped before the batch is made."""
    data = [{"x": 1, "text": "a"}]
    same, collator = without_unused_columns(data, list, ["x"], "M")

    assert same is data
    assert collator(data) == [{"x": 1}]


def test_lengths():
    """A length that is refused is no length; samples are counted by batches if need be."""

    class Refusing:
        def __len__(self):
            raise NotImplementedError

    assert has_length([])
    assert not has_length(Refusing())
    assert not has_length(loader_of(Stream(3)))
    assert count_samples(loader_of(Augmented(5)), 2) == 5
    assert count_samples([1, 2, 3], 2) == 6


@pytest.mark.parametrize(
    "option",
    [{"persistent_workers": True}, {"prefetch_factor": 2}, {"multiprocessing_context": "fork"}],
)
def test_options_for_workers(option):
    """What only workers need is refused without them."""
    with pytest.raises(ValueError, match=f"dataloader_{next(iter(option))}=.* is for workers"):
        LoaderOptions(**option)


def test_options_reach_torch():
    """Every option is the DataLoader's; iterable data keeps its last batch and its order."""
    options = LoaderOptions(
        num_workers=1, persistent_workers=True, prefetch_factor=3, drop_last=True, in_order=False
    )
    made = build_loader(
        Augmented(5),
        batch_size=2,
        collator=list,
        options=options,
        sampler=RandomSampler(range(5)),
        worker_init_fn=print,
    )
    stream = build_loader(
        Stream(5), batch_size=2, collator=list, options=options, worker_init_fn=print
    )

    assert (made.num_workers, made.prefetch_factor, made.persistent_workers) == (1, 3, True)
    assert (made.drop_last, made.in_order, made.worker_init_fn) == (True, False, print)
    assert (stream.drop_last, stream.worker_init_fn) == (False, None)
    assert made.pin_memory == torch.accelerator.is_available()
