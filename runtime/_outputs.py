"""What training, evaluating and predicting return, under upstream's names."""

import time
from typing import Any, NamedTuple


class TrainOutput(NamedTuple):
    global_step: int
    training_loss: float
    metrics: dict[str, float]


class PredictionOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


class EvalLoopOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None
    num_samples: int | None


class EvalPrediction:
    def __init__(self, predictions, label_ids, inputs=None, losses=None):
        self.predictions, self.label_ids, self.inputs, self.losses = (
            predictions,
            label_ids,
            inputs,
            losses,
        )


def speed_metrics(split, start_time, num_samples=None, num_steps=None, num_tokens=None):
    runtime = time.time() - start_time
    found = {f"{split}_runtime": runtime}
    if num_samples is not None:
        found[f"{split}_samples_per_second"] = num_samples / max(runtime, 1e-9)
    if num_steps is not None:
        found[f"{split}_steps_per_second"] = num_steps / max(runtime, 1e-9)
    return found
