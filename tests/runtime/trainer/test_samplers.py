"""Which samples an epoch visits, and in which order."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import RandomSampler

from runtime._data import EpochFeed
from runtime._loaders import LoaderOptions, build_loader
from runtime._samplers import (
    EpochRandomSampler,
    LengthGroupedSampler,
    eval_sampler,
    sample_lengths,
    seeded,
    train_sampler,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "sample_order.json").read_text())


class Rows:
    """Samples of five lengths; never ends when iterated, as many people's datasets do not."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"input_ids": torch.arange(1 + (index * 7) % 5), "index": index}


class Table(list):
    """A dataset with columns."""

    column_names = ("input_ids", "length")

    def __getitem__(self, key):
        return [7, 9, 8] if key == "length" else super().__getitem__(key)


def indices(rows):
    return [row["index"] for row in rows]


def name(case):
    drop = "-drop" if case["drop_last"] else ""
    return f"{case['strategy']}-{case['seed']}-{case['data_seed']}-{case['samples']}{drop}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=name)
def test_order_is_upstreams(case):
    """For the same arguments the batches of three epochs are those of Transformers' Trainer."""
    torch.manual_seed(case["seed"])
    rows = Rows(case["samples"])
    sampler = train_sampler(
        rows,
        case["strategy"],
        seed=case["data_seed"],
        step_size=case["batch_size"] * case["accumulation"],
    )
    loader = build_loader(
        rows,
        batch_size=case["batch_size"],
        collator=indices,
        options=LoaderOptions(drop_last=case["drop_last"]),
        sampler=sampler,
        seed=case["data_seed"],
    )
    feed = EpochFeed(loader, accumulation=case["accumulation"])
    epochs = []
    for epoch in range(3):
        feed.begin(epoch)
        epochs.append([batch for group in iter(feed.next_group, []) for batch in group])

    assert epochs == case["epochs"]


def test_random_order_ignores_what_training_draws():
    """Seed and epoch give the order; the global generator neither gives nor loses a number."""
    sampler = EpochRandomSampler(range(20), seed=5)
    sampler.set_epoch(3)
    torch.manual_seed(1)
    first = list(sampler)

    assert torch.rand(()) == _first_number(1)
    sampler.set_epoch(3)
    assert list(sampler) == first
    assert sorted(first) == list(range(20))


def _first_number(seed):
    return torch.rand((), generator=torch.Generator().manual_seed(seed))


def test_epochs_differ_without_being_told():
    """Two complete passes over a loader come in two orders, the second that of epoch 1."""
    sampler = EpochRandomSampler(range(20), seed=5)
    passes = [list(sampler), list(sampler)]
    sampler.set_epoch(1)

    assert passes[0] != passes[1] == list(sampler)


def test_seed_of_the_program_by_default():
    """Without a seed of its own, the order is given by what torch was seeded with."""
    torch.manual_seed(11)
    by_default = list(train_sampler(range(9), "random", seed=None, step_size=1))

    assert by_default == list(EpochRandomSampler(range(9), seed=11))


def test_a_users_random_sampler_keeps_its_options():
    """A plain `RandomSampler` gets the order of seed and epoch, with its number of samples."""
    made = seeded(RandomSampler(range(10), replacement=True, num_samples=40), 3)

    assert isinstance(made, EpochRandomSampler)
    assert len(list(made)) == len(made) == 40
    assert seeded(made, 4) is made


def test_a_users_other_sampler_is_left_alone():
    """Any other sampler, such as a subset's, is used as it is."""
    loader = build_loader(
        Rows(6),
        batch_size=2,
        collator=indices,
        options=LoaderOptions(),
        sampler=[5, 3, 1],
    )

    assert list(loader) == [[5, 3], [1]]
    assert seeded(None, 1) is None


def test_evaluation_goes_in_order():
    """Evaluation is sequential unless training goes by length."""
    assert list(eval_sampler(range(4), "random", seed=0, batch_size=2)) == [0, 1, 2, 3]


def test_evaluation_by_length():
    """Grouped evaluation visits every sample once, draws for itself and goes on drawing."""
    rows = Rows(40)
    torch.manual_seed(0)
    passes = [
        [list(sampler), list(sampler)]
        for sampler in (
            eval_sampler(rows, "group_by_length", seed=3, batch_size=4),
            eval_sampler(rows, "group_by_length", seed=3, batch_size=4),
        )
    ]

    assert passes[0] == passes[1]
    assert passes[0][0] != passes[0][1]
    assert sorted(passes[0][0]) == list(range(40))
    assert torch.rand(()) == _first_number(0)


def test_longest_first():
    """The longest sample of all is the first, so that a lack of memory shows at once."""
    lengths = list(range(100))
    order = list(LengthGroupedSampler(lengths, 2))

    assert order[0] == 99
    assert sorted(order) == lengths
    assert list(LengthGroupedSampler([], 2)) == []


def test_lengths_of_samples():
    """Lengths come from the column that has them, or from the samples."""
    table = Table([{"input_ids": [1, 2]}] * 3)

    assert sample_lengths(Rows(5), column="length", input_name=None) == [1, 3, 5, 2, 4]
    assert sample_lengths(table, column="length", input_name=None) == [7, 9, 8]
    assert sample_lengths(table, column="size", input_name=None) == [2, 2, 2]
    assert sample_lengths([], column="size", input_name=None) == []


@pytest.mark.parametrize("rows", [[{"text": "a"}], [(1, 2)]])
def test_no_lengths(rows):
    """Samples without a length are refused, with the ways out."""
    with pytest.raises(ValueError, match="no 'pixels'; give the dataset a column 'length'"):
        train_sampler(rows, "group_by_length", seed=0, step_size=2, input_name="pixels")


def test_unknown_strategy():
    """The strategies are named."""
    with pytest.raises(ValueError, match="'sorted' must be random, sequential or group_by"):
        train_sampler(range(3), "sorted", seed=0, step_size=1)
