"""Good trainers, and tables of what is done wrong to them."""

import pytest
import torch
from torch import nn

from runtime import Trainer, TrainerCallback, TrainingArguments

WIDTH = 4
SAMPLES = [{"x": torch.ones(WIDTH) * i, "labels": torch.tensor(i % 2)} for i in range(8)]
EVALUATES = {"eval_strategy": "steps", "eval_steps": 1}


class Net(nn.Module):
    """Classifies; returns a loss if there are labels."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.head = nn.Linear(width, 2)

    def forward(self, x, labels=None):
        logits = self.head(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Returning(Net):
    """Returns what a function makes of its logits and labels."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x, labels=None):
        return self.make(self.head(x), labels)


class StepCounter(TrainerCallback):
    def __init__(self):
        self.begun = 0

    def on_step_begin(self, *_, **__):
        self.begun += 1


class Maker:
    """Makes trainers of one folder, which count the steps they begin.

    Attributes:
        folder: Theirs is `out` in it.
        steps: Who counts.
        made: The trainers.
    """

    def __init__(self, folder):
        self.folder = folder
        self.steps = StepCounter()
        self.made = []

    def __call__(self, *, arguments=None, callbacks=(), **given):
        values = {
            "output_dir": self.folder / "out",
            "max_steps": 3,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        args = TrainingArguments(**{**values, **(arguments or {})})
        if "model_init" not in given:
            given = {"model": Net(), **given}
        callbacks = [self.steps, *callbacks]
        trainer = Trainer(args=args, callbacks=callbacks, **{"train_dataset": SAMPLES, **given})
        self.made.append(trainer)
        return trainer


def given(**options):
    """Make a trainer of it, and train."""
    return lambda make: make(**options).train()


def on(name, *values, **options):
    """Call a method of a good trainer."""
    return lambda make: getattr(make(), name)(*values, **options)


def refused(make, do, error, parts, *, steps=0):
    """Do it, and look at what was raised, and after how many steps were begun."""
    with pytest.raises(error) as caught:
        do(make)
    said = str(caught.value)
    missing = [part for part in parts if part not in said]
    assert not missing, f"{missing} not in: {said}"
    assert make.steps.begun == steps
    return caught.value


def cases(*rows):
    """A table of a name, what is done, the error, and what its message says."""
    return pytest.mark.parametrize(
        ("do", "error", "parts"),
        [pytest.param(do, error, parts, id=name) for name, do, error, *parts in rows],
    )
