"""Checkpoints that do not fit, are damaged, hostile or not there: file, reason, what to do."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from runtime._checkpoint_errors import (
    CheckpointNotFoundError,
    DamagedCheckpointError,
    MismatchedStateError,
    MismatchedWeightsError,
    UnsafeCheckpointError,
)
from tests.runtime.trainer.bad_input.wrong_uses import (
    EVALUATES,
    SAMPLES,
    WIDTH,
    Net,
    cases,
    refused,
)

FITTING = "resume with the one it was made with, or load the weights into the model yourself"
EARLIER = "resume from an earlier checkpoint"


@pytest.fixture
def saved(make, monkeypatch):
    """A trainer's checkpoint after two steps, without its manifest, such as others write."""
    monkeypatch.chdir(make.folder)
    make(arguments={"save_strategy": "steps", "max_steps": 2}).train()
    make.made[0].close()
    make.steps.begun = 0
    folder = make.folder / "out" / "checkpoint-2"
    (folder / "manifest.json").unlink()
    return folder


class Wider(Net):
    def __init__(self):
        super().__init__(width=WIDTH + 1)
        self.more = nn.Linear(2, 2)


class Hostile:
    """Makes a folder when it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def cut(name):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def holding(name, content):
    return lambda folder: torch.save(content, folder / name)


def without(name):
    return lambda folder: (folder / name).unlink()


def stating(**values):
    def damage(folder):
        path = folder / "trainer_state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


def other_shapes(folder):
    content = torch.load(folder / "optimizer.pt", weights_only=True)
    for state in content["state"].values():
        state["exp_avg"] = torch.zeros(7)
    torch.save(content, folder / "optimizer.pt")


@cases(
    ("list as optimizer", holding("optimizer.pt", [1]), DamagedCheckpointError, "holds a list"),
    (
        "no optimizer's state",
        holding("optimizer.pt", {"a": 1}),
        MismatchedStateError,
        "does not fit the AdamW of this training: it is no optimizer's state",
        FITTING,
    ),
    (
        "other shapes",
        other_shapes,
        MismatchedStateError,
        "exp_avg of parameter 0 has shape [7] instead of [2, 4]",
        FITTING,
    ),
    (
        "no schedule's state",
        holding("scheduler.pt", {"a": 1}),
        MismatchedStateError,
        "scheduler.pt of",
        "does not fit the LambdaLR of this training: it has no base_lrs",
        FITTING,
    ),
    (
        "no generators",
        holding("rng_state.pth", {"cpu": torch.zeros(3)}),
        DamagedCheckpointError,
        "rng_state.pth cannot be used",
        EARLIER,
    ),
    (
        "cut weights",
        cut("model.safetensors"),
        DamagedCheckpointError,
        "model.safetensors cannot be read",
        EARLIER,
    ),
    (
        "cut state",
        cut("trainer_state.json"),
        DamagedCheckpointError,
        "trainer_state.json is not JSON",
        EARLIER,
    ),
    (
        "cut optimizer",
        cut("optimizer.pt"),
        DamagedCheckpointError,
        "optimizer.pt is neither an archive of torch nor a pickle",
        EARLIER,
    ),
    (
        "hostile",
        holding("optimizer.pt", {"state": Hostile()}),
        UnsafeCheckpointError,
        "optimizer.pt would run code when loaded",
        "nothing of it was executed",
        "If you trust who wrote it",
    ),
    (
        "steps below zero",
        stating(global_step=-2),
        DamagedCheckpointError,
        "trainer_state.json says that -2 steps were taken",
        EARLIER,
    ),
    (
        "steps in words",
        stating(global_step="two"),
        ValueError,
        "global_step is 'two', not an integer",
        "resume from another checkpoint",
    ),
    (
        "no state",
        without("trainer_state.json"),
        CheckpointNotFoundError,
        "without trainer_state.json training cannot go on from it",
        "load its weights into the model yourself",
    ),
    (
        "no weights",
        without("model.safetensors"),
        CheckpointNotFoundError,
        "it has none of model.safetensors",
        "name the folder that has",
    ),
)
def test_damaged(make, saved, do, error, parts):
    """The file is named, what is wrong with it, and nothing in it is executed."""
    do(saved)
    raised = refused(make, lambda _: make().train(saved), error, parts)
    assert str(saved) in str(raised)
    assert isinstance(raised, ValueError)  # as upstream raises
    assert not Path("pwned").exists()


def plateau():
    arguments = {**EVALUATES, "lr_scheduler_type": "reduce_lr_on_plateau"}
    return {"arguments": arguments, "eval_dataset": SAMPLES}


def part_of_it():
    model = Net()
    return {"model": model, "optimizers": (torch.optim.AdamW([model.head.bias]), None)}


@cases(
    (
        "wider model",
        lambda: {"model": Wider()},
        MismatchedWeightsError,
        "the checkpoint's weights belong to another model",
        "missing: more.weight, more.bias",
        "head.weight ([2, 4] instead of [2, 5])",
    ),
    (
        "other parameters",
        part_of_it,
        MismatchedStateError,
        "optimizer.pt of",
        "it has groups of [1, 1] parameters, and the optimizer of [1]",
        FITTING,
    ),
    (
        "other optimizer",
        lambda: {"arguments": {"optim": "sgd"}},
        MismatchedStateError,
        "does not fit the SGD of this training: it has no dampening, momentum, so another class",
        FITTING,
    ),
    (
        "other schedule",
        plateau,
        MismatchedStateError,
        "does not fit the ReduceLROnPlateau of this training",
        "so another class of schedules made it",
        FITTING,
    ),
)
def test_of_another_training(make, saved, do, error, parts):
    """What differs is named; nothing is half loaded and trained on."""
    refused(make, lambda _: make(**do()).train(saved), error, parts)


@pytest.mark.parametrize(
    ("wanted", "error", "parts"),
    [
        (True, CheckpointNotFoundError, ("no checkpoint-STEP that is intact", "without resuming")),
        ("nowhere", CheckpointNotFoundError, ("nowhere: there is no such", "name the folder of a")),
        ("file", CheckpointNotFoundError, ("file: it is a file", "name the folder of a check")),
        (".", CheckpointNotFoundError, ("it has none of model.safetens", "name the folder that")),
        ("", TypeError, ("resume_from_checkpoint='' names no checkpoint", "pass its folder, or")),
        (5, TypeError, ("resume_from_checkpoint=5 names no checkpoint", "pass its folder, or")),
    ],
    ids=["none", "no folder", "file", "empty folder", "no name", "number"],
)
def test_not_there(make, monkeypatch, wanted, error, parts):
    """There is nothing to resume from."""
    monkeypatch.chdir(make.folder)
    Path("file").write_text("")
    refused(make, lambda _: make().train(wanted), error, parts)
