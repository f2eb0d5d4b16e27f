"""Writes one checkpoint: under a hidden name until every byte is on the disk, then by one rename.

Whoever looks sees a complete checkpoint or none, at whatever moment the process or the machine
stops. The files are those of Transformers' trainer, so that either resumes from the other's.
"""

import shutil
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - untyped path

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import UnsavableStateError
from runtime._checkpoint_files import (
    ARGUMENTS,
    LOOP,
    MODEL,
    OPTIMIZER,
    RNG,
    SCALER,
    SCHEDULER,
    STATE,
    checkpoint_step,
    hidden_path,
    put_in_place,
)
from runtime._checkpoint_manifest import Manifest, seal
from runtime._checkpoint_shards import split, write_shard
from runtime._checkpoint_snapshot import Snapshot
from runtime._checkpoint_trees import with_numbers

EPOCH_START: Final = "epoch_start"
"""The entry of `rng_state.pth` that Transformers does not have, and does not mind."""

_TRIES: Final = 20


def write_checkpoint(path: Path, snapshot: Snapshot, contents: CheckpointContents) -> Manifest:
    """Write a checkpoint and make it visible.

    Args:
        path: Its final name; a checkpoint that has it already is replaced.
        snapshot: The tensors.
        contents: Everything else.

    Returns:
        What was written.

    Raises:
        OSError: The disk refused; nothing of it is left.
        UnsavableStateError: A state could not be loaded again; likewise.
        DamagedCheckpointError: What another process has written is not there; likewise.
        Exception: What `contents.state` or `contents.extras` raised; likewise.
    """
    folder = hidden_path(path, "tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shard, known = contents.shard, None
    try:
        if shard is None:
            _write_model(folder, snapshot)
        else:
            shard.turn.announce(folder.name)
            known = write_shard(folder, snapshot, shard)
        _write_trees(folder, snapshot, contents)
        _write_texts(folder, contents)
        if contents.extras is not None:
            contents.extras(folder)
        if shard is not None and known is not None:
            known |= shard.turn.collect()
        for file in folder.glob("*.safetensors"):
            shutil.copymode(folder / STATE, file)  # safetensors makes it the owner's alone
        manifest = seal(folder, checkpoint_step(path), known)
        put_in_place(folder, path)
    finally:
        _remove(folder)
    return manifest


def _remove(folder: Path) -> None:
    """Remove what was not put in place; other processes may just be putting files into it."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _write_model(folder: Path, snapshot: Snapshot) -> None:
    tensors = {name: each.contiguous() for name, each in snapshot.model.items()}
    # As `safetensors.torch.save_model` does: removed name to the name that was kept.
    try:
        save_file(tensors, folder / MODEL, metadata={**snapshot.tied, "format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{MODEL} cannot be written: {error}") from error


def _write_trees(folder: Path, snapshot: Snapshot, contents: CheckpointContents) -> None:
    trees = dict(snapshot.trees)
    if contents.shard is not None and "optimizer" in trees:
        _, trees["optimizer"] = split(trees["optimizer"], contents.shard)
    if "scaler" in trees:
        trees["scaler"] = with_numbers(trees["scaler"])
    if contents.rng is not None:
        rng = contents.rng.to_dict()
        if contents.epoch_start is not None:
            rng[EPOCH_START] = contents.epoch_start.to_dict()
        _save(folder / RNG, rng)
    for name, file in _FILES.items():
        if name in trees:
            _save(folder / file, trees[name])
            _refuse_code(folder / file, name)


_FILES: Final = {"optimizer": OPTIMIZER, "scheduler": SCHEDULER, "scaler": SCALER, "loop": LOOP}


def _save(path: Path, tree: object) -> None:
    # Given a path, torch holds the interpreter while it writes; given a file, Python does not.
    with path.open("wb") as file:
        try:
            torch.save(tree, file)
        except RuntimeError as error:
            # Torch fails again while it closes the archive, over what the disk had said.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _refuse_code(path: Path, name: str) -> None:
    """Find out now, not at the resume, that a state is more than tensors and plain values."""
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if unsafe:
        raise UnsavableStateError(name, f"it holds objects of {', '.join(sorted(unsafe))}")


def _write_texts(folder: Path, contents: CheckpointContents) -> None:
    (folder / STATE).write_text(contents.state(), encoding="utf-8")
    if contents.arguments is not None:
        (folder / ARGUMENTS).write_text(contents.arguments, encoding="utf-8")
