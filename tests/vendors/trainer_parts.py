"""Transformers' trainer or ours, and tiny models and data sets that both take.

A model notes which samples it was trained on and with what loss, so that two trainings can be
compared batch by batch. Everything is determined by seeds and positions.
"""

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

FEATURES = 4
CLASSES = 3
IGNORED = -100


def import_library(name: str) -> Any:
    """Transformers' package or ours, by what the scripts here are told.

    Without Comet's client, which Transformers would import, and matplotlib with it: for seconds.
    """
    sys.modules.setdefault("comet_ml", None)  # "is not there"
    return importlib.import_module({"transformers": "transformers", "hotloop": "runtime"}[name])


def sample(index: int) -> dict[str, Tensor]:
    """The sample at a position: features, label and the position itself."""
    angles = torch.arange(1, FEATURES + 1) * (index + 1) * 0.7
    label = IGNORED if index % 7 == 6 else index % CLASSES
    return {"x": angles.sin(), "labels": torch.tensor(label), "index": torch.tensor(index)}


def token_sample(index: int) -> dict[str, Tensor]:
    """A short text of a small language, for causal language models."""
    tokens = (torch.arange(6) * (index + 1) + index) % 11
    return {"input_ids": tokens, "labels": tokens.clone()}


class Samples(Dataset[dict[str, Tensor]]):
    """So many samples, by position."""

    def __init__(self, size: int, make: Any = sample) -> None:
        self.size = size
        self.make = make

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.make(index)


class Stream(IterableDataset[dict[str, Tensor]]):
    """Samples one after another, without a length.

    Args:
        sizes: How many there are in each pass; the last number holds from then on.
    """

    def __init__(self, *sizes: int, make: Any = sample) -> None:
        self.sizes = list(sizes)
        self.make = make

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        size = self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]
        return map(self.make, range(size))


class SizedStream(Stream):
    """Samples one after another, with a length."""

    def __len__(self) -> int:
        return self.sizes[0]


class Classifier(nn.Module):
    """Two layers; returns a dictionary.

    Args:
        dropout: Share of the hidden numbers that are dropped, which draws random numbers.

    Attributes:
        trained: Positions of the samples of each training batch.
        losses: The loss of each training batch.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(dropout)
        self.second = nn.Linear(8, CLASSES)
        self.trained: list[list[int]] = []
        self.losses: list[float] = []

    def forward(self, x: Tensor, labels: Tensor | None = None, index: Tensor | None = None) -> Any:
        logits = self.second(self.drop(torch.tanh(self.norm(self.first(x)))))
        if labels is None:
            self.note(index, None)
            return {"logits": logits}
        loss = self.loss(logits, labels, index)
        self.note(index, loss)
        return {"loss": loss, "logits": logits}

    def loss(self, logits: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """The mean cross-entropy of the samples that have a label."""
        del index
        return functional.cross_entropy(logits, labels, ignore_index=IGNORED)

    def note(self, index: Tensor | None, loss: Tensor | None) -> None:
        """Remember a training batch."""
        if not self.training:
            return
        if index is not None:
            self.trained.append(index.tolist())
        if loss is not None:
            self.losses.append(float(loss.detach()))


class TupleClassifier(Classifier):
    """Returns a tuple, loss first."""

    def forward(self, x: Tensor, labels: Tensor | None = None, index: Tensor | None = None) -> Any:
        return tuple(super().forward(x, labels, index).values())


class CountingClassifier(Classifier):
    """Divides by the number of labels of the whole optimizer step, as language models do."""

    def forward(  # type: ignore[override]  # one more way to be called
        self,
        x: Tensor,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> Any:
        logits = self.second(torch.tanh(self.norm(self.first(x))))
        if labels is None:
            return {"logits": logits}
        how = "mean" if num_items_in_batch is None else "sum"
        loss = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction=how)
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
        self.note(index, loss)
        return {"loss": loss, "logits": logits}


class DivergingClassifier(Classifier):
    """Has no finite loss for one sample, but finite gradients."""

    def loss(self, logits: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        good = super().loss(logits, labels, index)
        assert index is not None
        # Added as a number, so that only what is reported is not finite.
        return good + torch.where((index == 5).any(), torch.nan, 0.0)


class ConfiguredClassifier(Classifier):
    """Has a `config`, without which Transformers' trainer smoothes no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace()


class FailingClassifier(Classifier):
    """Raises in its seventh forward pass."""

    def loss(self, logits: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        if len(self.losses) == 6:
            raise ArithmeticError("the model failed as it was told to")
        return super().loss(logits, labels, index)


class LargeClassifier(Classifier):
    """Has no room for more than 14 samples."""

    def loss(self, logits: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        if len(logits) > 14:
            raise RuntimeError("CUDA out of memory. Tried to allocate as much as it was told to")
        return super().loss(logits, labels, index)


def tiny_gpt2() -> nn.Module:
    """A GPT-2 of a few thousand weights; needs the transformers package."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - not for most models

    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    config.loss_type = "ForCausalLM"
    return GPT2LMHeadModel(config)


MODELS = {
    "classifier": Classifier,
    "dropout": lambda: Classifier(dropout=0.3),
    "tuple": TupleClassifier,
    "configured": ConfiguredClassifier,
    "counting": CountingClassifier,
    "diverging": DivergingClassifier,
    "failing": FailingClassifier,
    "large": LargeClassifier,
    "gpt2": tiny_gpt2,
}


def make_model(name: str) -> nn.Module:
    """A model with the same weights every time."""
    torch.manual_seed(1234)
    return MODELS[name]()


def make_dataset(kind: str, *sizes: int, tokens: bool = False) -> Any:
    """A data set by kind: `map`, `stream` (one size for each pass) or `sized`."""
    make = token_sample if tokens else sample
    if kind == "map":
        return Samples(*sizes, make=make)
    return (SizedStream if kind == "sized" else Stream)(*sizes, make=make)
