"""Writes a finished model into a folder, as Transformers' `save_model` lays it out."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - untyped path

from runtime._checkpoint_files import ARGUMENTS, MODEL
from runtime._checkpoint_trees import untie


def write_model(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    arguments: str,
    extras: Callable[[Path], None] | None,
) -> None:
    """Write weights, arguments and whatever the model brings; what is there already is replaced.

    Args:
        folder: Where; made if it does not exist.
        weights: By name; tied ones are written once.
        arguments: The text of `training_args.json`.
        extras: Writes further files into the folder.

    Raises:
        OSError: The disk refused; weights that were there before are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    distinct, tied = untie(weights)
    hidden = folder / f".{MODEL}.{os.getpid()}.tmp"
    try:
        on_host = {name: each.detach().cpu().contiguous() for name, each in distinct.items()}
        save_file(on_host, hidden, metadata={**tied, "format": "pt"})
        hidden.replace(folder / MODEL)
    finally:
        hidden.unlink(missing_ok=True)
    (folder / ARGUMENTS).write_text(arguments, encoding="utf-8")
    if extras is not None:
        extras(folder)
