"""What training, evaluation and prediction return."""

import time

import numpy as np
import pytest
import torch

from runtime import EvalPrediction, PredictionOutput, TrainOutput
from runtime._outputs import denumpify, speed_metrics


def test_prediction_unpacks():
    """It unpacks to what there is; predictions and labels come first."""
    plain = EvalPrediction(predictions=1, label_ids=2)
    full = EvalPrediction(1, 2, inputs=3, losses=4)

    assert tuple(plain) == (1, 2)
    assert (full[0], full[3], len(full)) == (1, 4, 4)
    assert tuple(EvalPrediction(1, 2, losses=4)) == (1, 2, 4)
    assert (full.inputs, plain.losses) == (3, None)
    with pytest.raises(IndexError):
        plain[2]


def test_named_tuples():
    """Results are tuples with upstream's names."""
    assert TrainOutput(3, 0.5, {}) == (3, 0.5, {})
    assert PredictionOutput._fields == ("predictions", "label_ids", "metrics")


def test_speed():
    """Each count that is given becomes a rate."""
    metrics = speed_metrics("test", time.time() - 10, num_samples=100, num_tokens=5000)

    assert list(metrics) == ["test_runtime", "test_samples_per_second", "test_tokens_per_second"]
    assert metrics["test_runtime"] == pytest.approx(10, rel=0.1)
    assert metrics["test_samples_per_second"] == pytest.approx(10, rel=0.1)
    assert metrics["test_tokens_per_second"] == pytest.approx(500, rel=0.1)


def test_speed_of_a_clock_that_was_set_back():
    """A time that has not passed gives no rates."""
    assert list(speed_metrics("eval", time.time() + 60, num_steps=3)) == ["eval_runtime"]


def test_numbers():
    """numpy's and torch's numbers become Python's, wherever they are."""
    array = np.ones(2)
    found = denumpify({"a": np.float32(0.5), "b": [torch.tensor([2]), (np.int64(3),)], "c": array})

    assert found == {"a": 0.5, "b": [2, (3,)], "c": array}
    assert type(found["b"][1][0]) is int
    assert denumpify(torch.ones(2)).shape == (2,)
