"""Trainings that draw random numbers wherever they can, and all that they leave behind.

Tests of resuming and of killed processes train with these; `outcome` is what they compare.
"""

import json
import random

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

import runtime

MEASURED = ("runtime", "per_second", "train_loss")
"""What a log entry says of one process and not of the training: its speed, and its share."""

FEATURES = 4


def augmented(index):
    """A sample with a bit of chance from each of the three generators."""
    chance = torch.rand(()).item() + np.random.rand() + random.random()  # noqa: NPY002, S311 - users' ways
    x = torch.arange(1, FEATURES + 1) * (index + 1) * 0.7
    label = torch.tensor([0.5, -0.5])[index % 2]
    return {"x": x.sin() + 0.1 * chance, "labels": label, "index": torch.tensor(index)}


class Samples(Dataset):
    """So many samples by position.

    Args:
        size: How many.
        make: What makes one of its position.
    """

    def __init__(self, size, make=augmented):
        self.size, self.make = size, make

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.make(index)


class Stream(IterableDataset):
    """Samples one after another, without a length; workers take turns."""

    def __init__(self, size, make=augmented):
        self.size, self.make = size, make

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, by = (0, 1) if worker is None else (worker.id, worker.num_workers)
        yield from (self.make(index) for index in range(first, self.size, by))


class SeekableStream(IterableDataset):
    """Samples in an order of its own, which can say where it is and go there.

    Attributes:
        read: Samples made since it was built: seeking makes none.
    """

    def __init__(self, size):
        self.size = size
        self.first = self.position = self.read = 0

    def __iter__(self):
        first, self.first = self.first, 0
        for index in range(first, self.size):
            self.position = index + 1
            self.read += 1
            yield augmented(index)

    def state_dict(self):
        """The position."""
        return {"position": self.position}

    def load_state_dict(self, state):
        """Go there, the next time it is iterated."""
        self.first = state["position"]


class Model(torch.nn.Module):
    """Two layers with dropout; notes what it is trained on.

    Attributes:
        seen: Each training batch's positions, and the bits of its features.
    """

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = torch.nn.Linear(FEATURES, 8)
            self.second = torch.nn.Linear(8, 1)
        self.drop = torch.nn.Dropout(0.3)
        self.seen = []

    def forward(self, x, labels=None, index=None):
        """The mean squared error and the outputs."""
        if self.training:
            self.seen.append((index.tolist(), x.numpy().tobytes()))
        outputs = self.second(self.drop(torch.tanh(self.first(x)))).squeeze(-1)
        return {"loss": self.loss(outputs, labels), "logits": outputs}

    def loss(self, outputs, labels):
        """The mean squared error."""
        return (outputs - labels).square().mean()


class Diverging(Model):
    """Has no finite loss every third time, but finite gradients."""

    def loss(self, outputs, labels):
        """The mean squared error, or infinity."""
        good = super().loss(outputs, labels)
        return good / 0.0 if len(self.seen) % 3 == 0 and self.training else good


class Tokens(Model):
    """Is fed tokens, some of them padding."""

    main_input_name = "x"

    def forward(self, x, labels=None, index=None, attention_mask=None):
        """As its parent, whatever is masked."""
        del attention_mask
        return super().forward(x, labels, index)

    def num_parameters(self, exclude_embeddings=True):
        """What the count of operations asks for."""
        del exclude_embeddings
        return sum(each.numel() for each in self.parameters())


def masked(index):
    """A sample that says which of its numbers count."""
    return {**augmented(index), "attention_mask": torch.arange(FEATURES) <= index % FEATURES}


def ragged(index):
    """A sample of a length of its own, which the model is not given."""
    return {**augmented(index), "text": "word " * (index * 5 % 7)}


class Names:
    """A tokenizer's word for what has the length."""

    model_input_names = ("text",)


def outcome(trainer):
    """All that a training leaves behind, as text that is equal only for equal bits."""
    state, scaler = trainer.state, trainer._precision.scaler
    history = [
        {name: value for name, value in entry.items() if not name.endswith(MEASURED)}
        for entry in state.log_history
    ]
    kept = json.loads(state.to_json())
    for name in ("log_history", "best_model_checkpoint"):
        del kept[name]
    return {
        "weights": bits(trainer.model.state_dict()),
        "optimizer": bits(trainer.optimizer.state_dict()),
        "scheduler": bits(trainer.lr_scheduler.state_dict()),
        "scaler": bits(scaler.state_dict() if scaler is not None else None),
        "log history": json.dumps(history, indent=1, sort_keys=True),
        "state": json.dumps(kept, indent=1, sort_keys=True),
        "generators": bits(runtime._rng.RngState.capture().to_dict()),
    }


def bits(tree):
    """Nested values as text, tensors and arrays by their bytes."""
    if isinstance(tree, torch.Tensor):
        return f"{tree.dtype} {tuple(tree.shape)} {tree.detach().cpu().numpy().tobytes().hex()}"
    if isinstance(tree, np.ndarray):
        return f"{tree.dtype} {tree.tobytes().hex()}"
    if isinstance(tree, dict):
        return {str(key): bits(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [bits(value) for value in tree]
    return repr(tree)


def differences(one, other):
    """The parts of two outcomes that differ, with the first place where they do."""
    return [
        f"{name}: {_first_difference(str(one[name]), str(other[name]))}"
        for name in one
        if one[name] != other[name]
    ]


def _first_difference(one, other):
    place = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), 0
    )
    around = slice(max(0, place - 120), place + 80)
    return f"{one[around]!r} became {other[around]!r}"
