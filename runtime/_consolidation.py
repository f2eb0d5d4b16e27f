"""Makes one model of a sharded checkpoint on disk, in the files that `from_pretrained` reads.

    checkpoint-500/model_rank*.safetensors ─► model.safetensors, config.json, tokenizer, ...

Large models become several files with an index, as Transformers writes them. No process group and
no device is needed, and no more memory than one file takes.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - untyped path

from runtime._checkpoint_errors import CheckpointNotFoundError
from runtime._checkpoint_files import (
    MANIFEST,
    MODEL,
    MODEL_INDEX,
    STATE,
    rank_files,
)
from runtime._checkpoint_load import verify
from runtime._checkpoint_pieces import Pieces
from runtime._checkpoint_reading import weight_files
from runtime._checkpoint_run import RUN_IDENTITY, RUN_PATH

_LARGEST: Final = 5 * 10**9
"""Bytes of tensors in a file; those of Transformers are as large."""

_OF_TRAINING: Final = {MANIFEST, STATE, RUN_IDENTITY, RUN_PATH}
_TENSORS: Final = {".safetensors", ".pt", ".pth", ".bin"}


def consolidate(
    checkpoint: Path | str, folder: Path | str, *, max_file_size: int = _LARGEST
) -> list[Path]:
    """Write the whole model of a checkpoint, with its configuration and its tokenizer.

    Args:
        checkpoint: Of any number of processes; it is verified first, and nothing in it is executed.
        folder: Where; made if it does not exist. Files of the same names are replaced.
        max_file_size: Bytes of tensors in one file; a tensor that is larger has one of its own.

    Returns:
        The files that hold weights.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged; the message names the file.
        ValueError: The folder is the checkpoint itself, whose manifest would not know the files.
        OSError: The disk refused.
    """
    source, target = Path(checkpoint), Path(folder)
    if source.resolve() == target.resolve():
        raise ValueError(f"{target} is the checkpoint itself; name another folder")
    verify(source)
    files = rank_files(source, "model") or weight_files(source)
    if not all(name.endswith(".safetensors") for name in files):
        raise CheckpointNotFoundError(source, "it has no safetensors to put together")
    target.mkdir(parents=True, exist_ok=True)
    with Pieces(source, files) as pieces:
        written = _write(pieces, target, max_file_size)
    for file in source.iterdir():
        if file.is_file() and file.suffix not in _TENSORS and file.name not in _OF_TRAINING:
            shutil.copy(file, target / file.name)
    return written


def _write(pieces: Pieces, target: Path, largest: int) -> list[Path]:
    groups = list(_grouped(pieces, largest))
    one = len(groups) == 1
    names = [
        MODEL if one else f"model-{number:05}-of-{len(groups):05}.safetensors"
        for number in range(1, len(groups) + 1)
    ]
    for name, group in zip(names, groups, strict=True):
        tensors = {each: pieces.read(each).contiguous() for each in group}
        tied = {alias: kept for alias, kept in pieces.tied.items() if kept in tensors}
        _save(tensors, target / name, {**tied, "format": "pt"})
    if not one:
        where = {each: name for name, group in zip(names, groups, strict=True) for each in group}
        size = sum(map(pieces.size, where))
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (target / MODEL_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [target / name for name in names]


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write under a hidden name first, so that a file that is there is whole."""
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        save_file(tensors, hidden, metadata=metadata)
        hidden.chmod(0o644)  # safetensors makes it the owner's alone
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def _grouped(pieces: Pieces, largest: int) -> Iterator[list[str]]:
    """The names of tensors by file, in the model's order."""
    group: list[str] = []
    taken = 0
    for name in pieces.shapes:
        if name in pieces.tied:
            continue
        size = pieces.size(name)
        if group and taken + size > largest:
            yield group
            group, taken = [], 0
        group.append(name)
        taken += size
    yield group
