"""What Transformers' models and tokenizers write beside their weights, if they are such."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch


@runtime_checkable
class _Saves(Protocol):
    def save_pretrained(self, save_directory: str) -> object: ...


def pretrained_files(
    model: torch.nn.Module, processing_class: object
) -> Callable[[Path], None] | None:
    """Writes a model's configuration and its tokenizer into a folder; None if it has neither."""
    can_generate = getattr(model, "can_generate", None)
    generates = callable(can_generate) and bool(can_generate())
    candidates: list[object] = [
        getattr(model, "config", None),
        getattr(model, "generation_config", None) if generates else None,
        processing_class,
    ]
    found = [each for each in candidates if isinstance(each, _Saves)]
    if not found:
        return None

    def write(folder: Path) -> None:
        for each in found:
            each.save_pretrained(str(folder))

    return write


def settings_of(model: torch.nn.Module) -> dict[str, object]:
    """A model's configuration as plain data; empty if it has none that says so."""
    to_dict = getattr(getattr(model, "config", None), "to_dict", None)
    if not callable(to_dict):
        return {}
    found: object = to_dict()
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
