"""How samples become a batch."""

import logging
from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from runtime import default_data_collator
from runtime._collate import KeepColumns
from runtime._signatures import can_return_loss, find_labels, named_inputs, wanted_columns


class Pair(NamedTuple):
    """A sample whose parts have names."""

    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Row:
    """A sample with fields."""

    input_ids: list
    label: int
    text: str = "left out"


class Loose:
    """A sample with attributes."""

    def __init__(self, x):
        self.x = x


class Model(torch.nn.Module):
    """Takes a few things."""

    def forward(self, x, mask=None, *, labels=None, return_loss=True):
        return x, mask, labels, return_loss


class ForQuestionAnswering(torch.nn.Module):
    """Finds where an answer starts and ends."""

    def forward(self, x, start_positions=None, end_positions=None):
        return x, start_positions, end_positions


def same(batch, expected):
    assert batch.keys() == expected.keys()
    for key, value in expected.items():
        assert batch[key].dtype == value.dtype, key
        assert torch.equal(batch[key], value), key


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, torch.tensor([1, 1])),
        (0.5, torch.tensor([0.5, 0.5])),
        (True, torch.tensor([True, True])),
        ([1, 2], torch.tensor([[1, 2], [1, 2]])),
        (np.ones(2), torch.ones(2, 2, dtype=torch.float64)),
        (np.float32(2), torch.tensor([2.0, 2.0], dtype=torch.float32)),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, 2, dtype=torch.bfloat16)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(value, expected):
    """Numbers and lists become tensors, arrays and tensors are stacked with their type."""
    same(default_data_collator([{"x": value}] * 2), {"x": expected})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("label", 1, torch.tensor([1, 1])),
        ("label", np.int8(1), torch.tensor([1, 1])),
        ("label", 1.5, torch.tensor([1.5, 1.5])),
        ("label", np.float64(1.5), torch.tensor([1.5, 1.5])),
        ("label", torch.tensor(1, dtype=torch.int8), torch.tensor([1, 1])),
        ("label", torch.tensor(1.5, dtype=torch.float64), torch.tensor([1.5, 1.5])),
        ("label", torch.tensor([1]), torch.tensor([1, 1])),
        ("label", torch.tensor([1, 2]), torch.tensor([[1, 2], [1, 2]])),
        ("label", [0, 1], torch.tensor([[0.0, 1.0], [0.0, 1.0]])),
        ("label_ids", [0, 1], torch.tensor([[0, 1], [0, 1]])),
        ("label_ids", [0.5, 1.0], torch.tensor([[0.5, 1.0], [0.5, 1.0]])),
        ("label_ids", torch.tensor([0, 1]), torch.tensor([[0, 1], [0, 1]])),
    ],
    ids=range(12),
)
def test_labels(key, value, expected):
    """`label` and `label_ids` become `labels`: int64 for integers, float32 for all else."""
    same(default_data_collator([{key: value}] * 2), {"labels": expected})


def test_labels_that_are_none():
    """The first sample says what there is; None and strings are left out."""
    samples = [{"label": None, "label_ids": [1], "text": "a", "more": None, "x": 1}]

    same(
        default_data_collator(samples),
        {"labels": torch.tensor([[1]]), "x": torch.tensor([1])},
    )


def test_objects():
    """Dataclasses, plain objects and other mappings are batched like dictionaries."""
    same(
        default_data_collator([Row([1, 2], 0), Row([3, 4], 1)]),
        {"labels": torch.tensor([0, 1]), "input_ids": torch.tensor([[1, 2], [3, 4]])},
    )
    same(default_data_collator([Loose(1), Loose(2)]), {"x": torch.tensor([1, 2])})
    same(default_data_collator([UserDict(x=1)]), {"x": torch.tensor([1])})


def test_samples_without_names():
    """Tuples, tensors, arrays and numbers are batched as torch does it."""
    x, y = torch.ones(3), torch.tensor(1)
    pairs = default_data_collator([(x, 1), (x, 0)])
    named = default_data_collator([Pair(x, y), Pair(x, y)])

    assert torch.equal(pairs[0], torch.ones(2, 3))
    assert torch.equal(pairs[1], torch.tensor([1, 0]))
    assert isinstance(named, Pair)
    assert torch.equal(named.y, torch.tensor([1, 1]))
    assert torch.equal(default_data_collator([x, x]), torch.ones(2, 3))
    assert torch.equal(default_data_collator([np.ones(2)]), torch.ones(1, 2, dtype=torch.float64))
    assert torch.equal(default_data_collator([1, 2]), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([{"x": [1, 2]}, {"x": [1]}], "values of 'x' .* list of length 2, list of length 1"),
        ([{"x": torch.ones(2)}, {"x": torch.ones(3)}], r"Tensor of shape \(2,\), .*\(3,\)"),
        ([{"x": np.ones(2)}, {"x": np.ones(3)}], r"ndarray of shape \(2,\)"),
        ([{"x": {"a": 1}}], "they are: dict"),
        ([{"label": 1}, {"label": None}], "values of 'label' .* int, NoneType"),
        ([{"x": 1}, {"y": 1}], "sample 1 of a batch has no 'x', which sample 0 has"),
    ],
    ids=["lists", "tensors", "arrays", "nested", "labels", "keys"],
)
def test_what_makes_no_batch(samples, message):
    """The key, what its values are, and what to do about it."""
    with pytest.raises(ValueError, match=message) as caught:
        default_data_collator(samples)

    assert "data_collator" in str(caught.value)


def test_columns_the_model_does_not_take(caplog):
    """They are dropped before the batch is made, and named once; other samples pass."""
    columns = wanted_columns(Model(), ["labels"])
    keep = KeepColumns(default_data_collator, columns, "Model")
    with caplog.at_level(logging.INFO, logger="runtime"):
        for _ in range(2):
            batch = keep([{"x": 1, "label": 1, "name": "a", "index": 3}])

    assert sorted(batch) == ["labels", "x"]
    assert caplog.messages == ["Model.forward does not take and so is not given: name, index"]
    assert torch.equal(keep([(1, 2)])[0], torch.tensor([1]))


def test_no_column_left():
    """A sample of which nothing would be left is refused with the model's arguments."""
    keep = KeepColumns(default_data_collator, wanted_columns(Model(), []), "Model")

    with pytest.raises(ValueError, match=r"\(pixels\) is an argument of Model.forward .*mask"):
        keep([{"pixels": 1}])


def test_what_a_forward_says():
    """Labels, a loss without labels and names are read from the signature."""
    batch = (1, 2, 3, 4, 5)

    assert find_labels(Model) == ["labels"]
    assert find_labels(ForQuestionAnswering) == ["start_positions", "end_positions"]
    assert can_return_loss(Model)
    assert not can_return_loss(ForQuestionAnswering)
    assert named_inputs(Model(), batch) == {"x": 1, "mask": 2}
    assert wanted_columns(Model(), ["labels", "y"]) == [
        "x",
        "mask",
        "labels",
        "return_loss",
        "label",
        "label_ids",
        "y",
    ]
