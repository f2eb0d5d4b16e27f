"""What evaluation hands to metrics, what training, evaluation and prediction return."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch

Arrays: TypeAlias = Any
"""A numpy array, or arrays in tuples, lists and dictionaries as the model returned them."""


class EvalPrediction:
    """What the model said about the evaluation data, for `compute_metrics`.

    It unpacks like a tuple of what there is, predictions and labels first.

    Args:
        predictions: What the model returned besides the loss.
        label_ids: The labels.
        inputs: The model's main input, if `include_for_metrics` names "inputs".
        losses: The loss of each sample's batch, if it names "loss".
    """

    def __init__(
        self,
        predictions: Arrays,
        label_ids: Arrays,
        inputs: Arrays | None = None,
        losses: Arrays | None = None,
    ) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses
        optional = (part for part in (inputs, losses) if part is not None)
        self.elements: tuple[Arrays, ...] = (predictions, label_ids, *optional)

    def __iter__(self) -> Iterator[Arrays]:
        return iter(self.elements)

    def __getitem__(self, index: int) -> Arrays:
        return self.elements[index]

    def __len__(self) -> int:
        return len(self.elements)


class EvalLoopOutput(NamedTuple):
    """What one pass over evaluation data gives.

    Attributes:
        predictions: What the model returned besides the loss; None if only the loss was asked for.
        label_ids: The labels, if there are any.
        metrics: The loss and the metrics, under prefixed names.
        num_samples: How many samples there were.
    """

    predictions: Arrays | None
    label_ids: Arrays | None
    metrics: dict[str, float]
    num_samples: int


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns; see `EvalLoopOutput`."""

    predictions: Arrays | None
    label_ids: Arrays | None
    metrics: dict[str, float]


class TrainOutput(NamedTuple):
    """What `Trainer.train` returns.

    Attributes:
        global_step: Optimizer steps taken in all.
        training_loss: The mean loss of this call's steps.
        metrics: The summary: run time, throughput, loss.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, float]


def speed_metrics(
    split: str,
    start_time: float,
    num_samples: float | None = None,
    num_steps: float | None = None,
    num_tokens: float | None = None,
) -> dict[str, float]:
    """How long something took and how fast it went, rounded as upstream does.

    Args:
        split: What the names begin with: "train", "eval", "test".
        start_time: When it began, in Unix seconds.
        num_samples: Samples it processed.
        num_steps: Steps it took.
        num_tokens: Tokens it processed.

    Returns:
        `{split}_runtime` in seconds, and `_samples_per_second`, `_steps_per_second` and
        `_tokens_per_second` for each count that is given.
    """
    seconds = time.time() - start_time
    metrics = {f"{split}_runtime": round(seconds, 4)}
    if seconds <= 0:  # a coarse clock, or one that was set back
        return metrics
    counts = {"samples": num_samples, "steps": num_steps, "tokens": num_tokens}
    for name, count in counts.items():
        if count is not None:
            metrics[f"{split}_{name}_per_second"] = round(count / seconds, 3)
    return metrics


def denumpify(metrics: Any) -> Any:  # noqa: ANN401 - whatever users' metrics return
    """Turn numpy's and torch's numbers into Python's, in dictionaries, lists and tuples."""
    if isinstance(metrics, dict):
        named = cast("dict[str, Any]", metrics)
        return {key: denumpify(value) for key, value in named.items()}
    if isinstance(metrics, (list, tuple)):
        parts = [denumpify(part) for part in cast("list[Any]", metrics)]
        return tuple(parts) if isinstance(metrics, tuple) else parts
    if isinstance(metrics, torch.Tensor):
        return metrics.item() if metrics.numel() == 1 else metrics
    return cast("Any", metrics).item() if isinstance(metrics, np.generic) else metrics
