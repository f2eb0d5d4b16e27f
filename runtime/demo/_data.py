"""The text the demo learns: the language reference that ships inside every Python.

`pydoc_data.topics` holds what `help("for")` prints, about 470 kB of English with some grammar and
code. A paragraph that several topics repeat is kept once, so nothing is both learned and examined.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from runtime.demo._errors import CorpusMissingError

_PARAGRAPH: Final = "\n\n"
_EXAMINED: Final = 0.1
"""The share of each topic, its end, that is held back for validation."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Two texts as bytes, one token each.

    Attributes:
        train: The bytes to learn, uint8, one dimension.
        validation: Bytes of the same topics that are never learned, uint8, one dimension.
    """

    train: Tensor
    validation: Tensor


class Windows(Dataset[dict[str, Tensor]]):
    """Pieces of a text, each with the bytes that follow its own.

    Args:
        text: The bytes, uint8, one dimension.
        context: Bytes of a window.
        stride: How many bytes behind the one before each window begins: with 1 there is one for
            every place, with `context` every byte is predicted once, but for the last incomplete
            window.
    """

    def __init__(self, text: Tensor, *, context: int, stride: int) -> None:
        self._windows = text.unfold(0, context + 1, stride)

    def __len__(self) -> int:
        return len(self._windows)

    @override
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The window's `tokens` and, as `labels`, the bytes that follow them; both int64."""
        window = self._windows[index].long()
        return {"tokens": window[:-1], "labels": window[1:]}


def load_corpus(*, limit: int | None = None) -> Corpus:
    """Reads the text of this Python's `help` and splits it.

    Args:
        limit: Keep this many bytes of either text; `None` keeps all.

    Raises:
        CorpusMissingError: This Python came without its help texts.
    """
    train, validation = split(_topics())
    return Corpus(train=_tokens(train[:limit]), validation=_tokens(validation[:limit]))


def split(topics: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Splits every topic into its beginning, for training, and its end, for validation.

    Args:
        topics: Text by topic. Neither the order of the mapping nor the hash seed matters.

    Returns:
        The training text and the validation text, which share no paragraph.
    """
    seen: set[str] = set()
    train: list[str] = []
    validation: list[str] = []
    for name in sorted(topics):
        paragraphs = list(_unseen(topics[name].split(_PARAGRAPH), seen))
        learned = round(len(paragraphs) * (1 - _EXAMINED))
        train += paragraphs[:learned]
        validation += paragraphs[learned:]
    return _PARAGRAPH.join(train).encode(), _PARAGRAPH.join(validation).encode()


def _unseen(paragraphs: Iterable[str], seen: set[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        text = paragraph.strip("\n")
        if text and text not in seen:
            seen.add(text)
            yield text


def _topics() -> dict[str, str]:
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError as error:
        raise CorpusMissingError from error
    topics: dict[str, str] | None = getattr(module, "topics", None)
    if not topics:
        raise CorpusMissingError
    return topics


def _tokens(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)
