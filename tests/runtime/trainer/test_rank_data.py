"""How the samples of an epoch are shared out among processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler, IterableDataset, SequentialSampler

from runtime._collate import default_data_collator
from runtime._loaders import LoaderOptions, build_loader, count_samples
from runtime._rank_data import RankBatches, RankStream
from runtime._samplers import LengthGroupedSampler
from runtime._world import World

sizes = st.tuples(st.integers(0, 40), st.integers(1, 4), st.integers(1, 4))
"""Samples, ranks, and samples of a batch."""


class Stream(IterableDataset):
    """Numbers one after another, which can say where it is."""

    def __init__(self, size):
        self.size, self.place, self.epoch = size, 0, None

    def __len__(self):
        return self.size

    def __iter__(self):
        first, self.place = self.place, 0
        for place in range(first, self.size):
            self.place = place
            yield place
        self.place = 0

    def set_epoch(self, epoch):
        """Note it."""
        self.epoch = epoch

    def state_dict(self):
        """The place."""
        return {"place": self.place}

    def load_state_dict(self, state):
        """Go there."""
        self.place = state["place"] + 1


def batches(total, ranks, size, ending):
    """The batches of each rank."""
    order = SequentialSampler(range(total))
    made = [RankBatches(order, size, World(r, ranks), ending=ending, seed=0) for r in range(ranks)]
    assert [len(each) for each in made] == [len(list(each)) for each in made]
    return [list(each) for each in made]


def streams(total, ranks, size, ending):
    """The samples of each rank."""
    made = [RankStream(Stream(total), size, World(r, ranks), ending=ending) for r in range(ranks)]
    assert [len(each) for each in made] == [len(list(each)) for each in made]
    return [list(each) for each in made]


@given(sizes)
def test_training_fills_the_last_round(drawn):
    """Equally many full batches, in one order, the rest from its beginning."""
    total, ranks, size = drawn
    found = batches(total, ranks, size, "filled")
    rounds = [[index for batch in each for index in batch] for each in zip(*found, strict=True)]
    whole = ranks * size
    assert {len(batch) for each in found for batch in each} <= {size}
    together = [index for each in rounds for index in each]
    assert together == [index % total for index in range(len(rounds) * whole)]
    assert len(rounds) == -(-total // whole)
    assert [each for own in streams(total, ranks, size, "filled") for each in own] == [
        index for own in found for batch in own for index in batch
    ]


@given(sizes)
def test_dropping_leaves_the_last_round_out(drawn):
    """As one process with batches of that size drops its last one."""
    total, ranks, size = drawn
    found = batches(total, ranks, size, "dropped")
    together = [index for each in zip(*found, strict=True) for batch in each for index in batch]
    assert together == list(range(total - total % (ranks * size)))


@given(sizes)
def test_evaluation_has_each_sample_once(drawn):
    """Later ranks may have a smaller batch less, and nobody has a sample twice."""
    total, ranks, size = drawn
    found = batches(total, ranks, size, "uneven")
    counts = [len(each) for each in found]
    shares = [[index for batch in each for index in batch] for each in found]
    assert sorted(index for each in shares for index in each) == list(range(total))
    assert counts == sorted(counts, reverse=True)
    assert max(counts) - min(counts) <= 1
    assert streams(total, ranks, size, "uneven") == shares


def test_an_order_that_draws_is_the_same_on_all_ranks():
    """Whatever else the ranks have drawn; another epoch has another order."""
    lengths = [index % 7 for index in range(24)]
    shares = []
    for rank in range(2):
        torch.manual_seed(rank)
        made = RankBatches(
            LengthGroupedSampler(lengths, 4), 2, World(rank, 2), ending="filled", seed=3
        )
        before = torch.get_rng_state()
        epochs = []
        for epoch in range(2):
            made.set_epoch(epoch)
            epochs.append([index for batch in made for index in batch])
        assert torch.equal(torch.get_rng_state(), before)
        assert epochs[0] != epochs[1]
        shares.append(epochs[0])
    assert sorted(shares[0] + shares[1]) == list(range(24))


def test_a_stream_is_asked_through_its_share():
    """Length, epoch and place are those of the data."""
    data = Stream(10)
    share = RankStream(data, 2, World(1, 2), ending="filled")
    share.set_epoch(3)
    samples = iter(share)
    assert [next(samples), next(samples)] == [2, 3]
    state = share.state_dict()
    share.load_state_dict(state)
    assert (data.epoch, state) == (3, {"place": 3})
    assert next(iter(share)) == 6


def test_a_stream_without_a_length_or_a_place_has_none():
    """Nothing is offered that the data cannot do."""

    class Bare(IterableDataset):
        def __iter__(self):
            yield from range(3)

    share = RankStream(Bare(), 2, World(1, 2), ending="filled")
    with pytest.raises(TypeError):
        len(share)
    assert not hasattr(share, "state_dict")
    share.set_epoch(1)
    assert list(share) == [2, 0]


def loader(data, world, **more):
    """A loader of one rank."""
    options = LoaderOptions(pin_memory=False)
    return build_loader(
        data, batch_size=2, collator=default_data_collator, options=options, world=world, **more
    )


def test_a_loader_counts_the_samples_of_all():
    """However many of them it loads itself."""
    data = [{"x": index} for index in range(10)]
    for each in (data, Stream(10)):
        assert count_samples(loader(each, World(1, 2)), 2) == 10
    assert [batch["x"].tolist() for batch in loader(data, World(1, 2))] == [[2, 3], [6, 7], [0, 1]]


def test_a_distributed_sampler_shares_out_by_itself():
    """Nothing is shared out twice."""
    data = [{"x": index} for index in range(8)]
    sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
    found = loader(data, World(1, 2), sampler=sampler)
    assert [batch["x"].tolist() for batch in found] == [[1, 3], [5, 7]]
