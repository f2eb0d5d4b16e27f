"""One small training, by Transformers' trainer or by ours, that each reports to Comet.

The model, the data and the arguments are the same; each library has its own trainer, and each
tracker what that trainer gives it.
"""

import random

import torch

ARGUMENTS = {
    "max_steps": 12,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.05,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "no",
    "seed": 7,
    "disable_tqdm": True,
    "use_cpu": True,
    "run_name": "same",
}


class Line(torch.nn.Module):
    """A line through points."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x, labels=None):
        """The loss beside the prediction, as both trainers want it."""
        found = self.linear(x).squeeze(-1)
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}


def points(count, seed):
    """Points on a line, with noise."""
    dice = random.Random(seed)  # noqa: S311 - to repeat it
    return [
        {
            "x": torch.tensor([dice.random(), dice.random()]),
            "labels": torch.tensor(dice.random()),
        }
        for _ in range(count)
    ]


def _train(trainer):
    trainer.train()
    trainer.predict(points(8, 3))


def _data():
    return {"model": Line(), "train_dataset": points(32, 1), "eval_dataset": points(16, 2)}


def train_upstream(folder):
    """With `report_to="comet_ml"`."""
    import transformers  # noqa: PLC0415 - only where it is installed

    arguments = transformers.TrainingArguments(folder, report_to="comet_ml", **ARGUMENTS)
    _train(transformers.Trainer(args=arguments, **_data()))


def train_ours(folder, sink):
    """With a sink; returns the run's arguments."""
    import runtime  # noqa: PLC0415 - only where it is installed

    arguments = runtime.TrainingArguments(folder, report_to="none", **ARGUMENTS)
    with runtime.Trainer(args=arguments, sinks=[sink], **_data()) as trainer:
        _train(trainer)
