"""Data that cannot be trained or evaluated on is told before the first hook of a step."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.runtime.trainer.bad_input.wrong_uses import (
    EVALUATES,
    SAMPLES,
    WIDTH,
    cases,
    given,
    on,
    refused,
)

BY_INDEX = "pass samples by index (__getitem__ and __len__, such as a list)"
COLUMNS = {"x": torch.zeros(8, WIDTH), "labels": torch.zeros(8)}
X = torch.zeros(WIDTH)
RAGGED = [torch.zeros(WIDTH + i % 2) for i in range(8)]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(SAMPLES)


def stream():
    return (sample for sample in SAMPLES)


@cases(
    ("none", None, ValueError, "nothing to train on", "pass train_dataset="),
    ("empty", [], ValueError, "train_dataset has no samples", "pass one that has"),
    ("generator", stream(), TypeError, "a generator, which can be iterated but not by", BY_INDEX),
    ("set", {1, 2}, TypeError, "is a set, which can be iterated but not by index", BY_INDEX),
    ("text", "a.csv", TypeError, "is the str 'a.csv', which is no data", "load it, and pass"),
    ("bytes", b"a", TypeError, "is the bytes b'a', which is no data", "load it, and pass"),
    ("path", Path("a.csv"), TypeError, "a.csv'), of PosixPath", BY_INDEX),
    ("number", 42, TypeError, "train_dataset is 42, of int", BY_INDEX),
    ("class", Stream, TypeError, "is the class Stream", "pass an object, Stream(...)"),
    ("columns", COLUMNS, TypeError, "is a dict of x, labels, which has no", "dictionary for each"),
    ("loader", DataLoader(SAMPLES), TypeError, "is a DataLoader", "pass its dataset, or override"),
    (
        "other columns",
        [{"text": X, "kind": 0}] * 8,
        ValueError,
        "(text, kind) is an argument of Net.forward",
        "rename the columns, or set remove_unused_columns=False",
    ),
    (
        "no inputs",
        [{"labels": 0}] * 8,
        TypeError,
        "Net.forward(x, labels=None) cannot be called with a batch of labels",
        "missing a required argument: 'x'",
        "Rename the samples' keys to its parameters",
    ),
    (
        "text alone",
        ["some", "text"] * 4,
        TypeError,
        "a batch of str, str, str, str: too many positional arguments",
        "pass a data_collator",
    ),
    (
        "text for a tensor",
        [{"x": "some text", "labels": 0}] * 8,
        TypeError,
        "missing a required argument: 'x'",
        "pass a data_collator",
        "by default text, None and keys that it does not have are left out",
    ),
    (
        "a part too many",
        [(X, 0, 1)] * 8,
        TypeError,
        "a batch of Tensor, Tensor, Tensor: too many positional arguments",
        "pass a data_collator",
    ),
    ("nothings", [None] * 8, ValueError, "they are: NoneType", "or pass a data_collator"),
    (
        "ragged",
        [{"x": x, "labels": 0} for x in RAGGED],
        ValueError,
        "values of 'x' cannot be one tensor",
        "of shape (5,)",
        "or pass a data_collator that pads them",
    ),
    (
        "ragged tuples",
        [(x, 0) for x in RAGGED],
        ValueError,
        "samples cannot be made a batch (stack expects",
        "or pass a data_collator",
    ),
    (
        "keys of one alone",
        [{"x": X, "labels": 0}, *[{"x": X}] * 7],
        ValueError,
        "sample 1 of a batch has no 'labels', which sample 0 has",
        "give all samples the same keys",
    ),
)
def test_training_data(make, do, error, parts):
    """It is told by what it is."""
    arguments = {"train_sampling_strategy": "sequential"}
    refused(make, given(train_dataset=do, arguments=arguments), error, parts)


def named_sets(sets):
    return given(eval_dataset=sets, arguments=EVALUATES)


@cases(
    (
        "nothing to evaluate on",
        given(arguments=EVALUATES),
        ValueError,
        'eval_strategy="steps" needs data to evaluate on, and none was given',
        'pass eval_dataset=..., or set eval_strategy="no"',
    ),
    ("no set", named_sets({}), ValueError, "eval_dataset={} has none", "pass eval_dataset="),
    ("number as key", named_sets({1: SAMPLES}), TypeError, "the key 1", "name each set with a str"),
    ("empty key", named_sets({"": SAMPLES}), TypeError, "the key ''", "name each set with a str"),
    ("text as set", named_sets({"a": "a.csv"}), TypeError, "eval_dataset['a'] is the str", "load"),
    ("None as set", named_sets({"a": None}), TypeError, "eval_dataset['a'] is None", BY_INDEX),
    ("generator", named_sets(stream()), TypeError, "eval_dataset is a generator", BY_INDEX),
    (
        "unknown set",
        lambda make: make(eval_dataset={"a": SAMPLES}).evaluate("b"),
        ValueError,
        "there is no evaluation set 'b' (there are a)",
        "pass one of their names, or the data itself",
    ),
    ("evaluate nothing", on("evaluate"), ValueError, "nothing to evaluate on", "or to evaluate()"),
    ("evaluate a number", on("evaluate", 4), TypeError, "eval_dataset is 4, of int", BY_INDEX),
    ("predict nothing", on("predict", None), TypeError, "test_dataset is None", BY_INDEX),
    ("predict text", on("predict", "a.csv"), TypeError, "is the str 'a.csv'", "load it, and pass"),
    (
        "evaluate other columns",
        on("evaluate", [{"text": X}]),
        ValueError,
        "(text) is an argument of Net.forward",
        "rename the columns",
    ),
    (
        "predict without inputs",
        on("predict", [{"labels": 0}]),
        TypeError,
        "a batch of labels: missing a required argument: 'x'",
        "Rename the samples' keys",
    ),
    (
        "no end",
        given(train_dataset=Stream(), arguments={"max_steps": -1}),
        ValueError,
        "train_dataset (Stream) has no length, so num_train_epochs=3.0 does not say when to end",
        "set max_steps",
    ),
    (
        "no lengths",
        given(arguments={"train_sampling_strategy": "group_by_length"}),
        ValueError,
        "a sample (with x, labels) has no 'input_ids'",
        "or choose another strategy",
    ),
)
def test_data_and_what_is_asked_of_it(make, do, error, parts):
    """Data is refused for what it is wanted for."""
    refused(make, do, error, parts)
