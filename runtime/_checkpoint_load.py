"""Loads checkpoints, this package's and Transformers', after making sure that they are whole."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from runtime._boxes import local_part
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._checkpoint_errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    MismatchedWeightsError,
)
from runtime._checkpoint_files import (
    ARGUMENTS,
    LOOP,
    OPTIMIZER,
    RNG,
    SCALER,
    SCHEDULER,
    STATE,
    find_checkpoints,
    rng_file,
)
from runtime._checkpoint_folder import EPOCH_START
from runtime._checkpoint_manifest import check_files, read_manifest
from runtime._checkpoint_pieces import read_model
from runtime._checkpoint_reading import (
    check_archive,
    check_safetensors,
    read_json,
    read_tree,
    weight_files,
)
from runtime._rank_states import OWN
from runtime._rng import RngState, numpy_globals
from runtime._world import World

log = logging.getLogger("runtime")

_PICKLED_ARGUMENTS = "training_args.bin"


def last_good_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; each newer one that is not is named in a notice.

    Returns:
        The checkpoint, checked as `verify` does, or None if there is none.
    """
    for path in reversed(find_checkpoints(folder)):
        try:
            verify(path)
        except CheckpointError as error:
            log.warning("%s; looking for an earlier one", error)
        else:
            return path
    return None


def verify(path: Path) -> None:
    """Make sure that a checkpoint is what was written; reads all of it.

    One without a manifest, as Transformers writes them, is checked as far as its files allow: the
    sizes in the headers of safetensors, the checksums inside torch's archives, and JSON.

    Raises:
        CheckpointNotFoundError: There is none.
        DamagedCheckpointError: Naming the file that is missing, cut off or different.
        UnsafeCheckpointError: It names files outside of it.
    """
    if not path.is_dir():
        why = "it is a file" if path.is_file() else "there is no such folder"
        raise CheckpointNotFoundError(path, f"{why}; name the folder of a checkpoint")
    manifest = read_manifest(path)
    if manifest is not None:
        check_files(path, manifest.files)
        return
    for name in weight_files(path):
        if name.endswith(".safetensors"):
            check_safetensors(path, name)
        else:
            check_archive(path, name)
    for name in (OPTIMIZER, SCHEDULER, SCALER, *_rng_files(path)):
        if (path / name).exists():
            check_archive(path, name)
    read_json(path, STATE)


def load_checkpoint(
    path: Path,
    *,
    device: torch.device,
    verified: bool = False,
    world: World = World(),  # noqa: B008 - it cannot change
    weights: bool = True,
) -> LoadedCheckpoint:
    """Read a checkpoint; nothing in it is executed, whoever wrote it.

    Transformers' `training_args.bin` is a pickle of a class and is not read.

    Args:
        path: The checkpoint.
        device: Where the weights are wanted. Everything else stays on the host: an optimizer's
            `load_state_dict` puts its state where its parameters are.
        verified: Whether `verify` has just been passed.
        weights: Whether to read the weights; without them `model` is empty.
        world: Which process this is. Where a checkpoint was made by another number of processes, a
            notice says what will differ.

    Raises:
        CheckpointNotFoundError: There is none, or it has no weights.
        DamagedCheckpointError: A file of it is not what was written.
        UnsafeCheckpointError: A file of it would run code, or it names files outside of it.
    """
    if not verified:
        verify(path)
    if (path / _PICKLED_ARGUMENTS).exists() and not (path / ARGUMENTS).exists():
        log.info("%s is a pickle and is not read", path / _PICKLED_ARGUMENTS)
    _compare_worlds(path, world)
    rng, epoch_start, own = _read_rng(path, world)
    return LoadedCheckpoint(
        path=path,
        model=read_model(path, device=device) if weights else {},
        state=read_json(path, STATE),
        arguments=read_json(path, ARGUMENTS),
        optimizer=read_tree(path, OPTIMIZER),
        scheduler=read_tree(path, SCHEDULER),
        scaler=read_tree(path, SCALER),
        rng=rng,
        epoch_start=epoch_start,
        loop={**(read_tree(path, LOOP) or {}), **own},
    )


def load_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put a checkpoint's weights into a model, in place.

    A name that the checkpoint lacks is fine if the model ties it to one that the checkpoint has:
    Transformers leaves such names out.

    Raises:
        MismatchedWeightsError: The weights are not those of this model; it is left as it was.
    """
    own = model.state_dict(keep_vars=True)
    compare_weights(own, {name: each.shape for name, each in weights.items()})
    model.load_state_dict(weights, strict=False)


def compare_weights(own: Mapping[str, torch.Tensor], found: Mapping[str, Sequence[int]]) -> None:
    """Compare a model's weights with those of a checkpoint.

    Args:
        own: The model's own, as `state_dict(keep_vars=True)` has them.
        found: The sizes of the checkpoint's, by name.

    Raises:
        MismatchedWeightsError: They are not those of this model.
    """
    present = {_place(own[name]) for name in found if name in own}
    missing = [name for name in own if name not in found and _place(own[name]) not in present]
    unexpected = [name for name in found if name not in own]
    differing = [
        f"{name} ({list(found[name])} instead of {list(tensor.shape)})"
        for name, tensor in own.items()
        if name in found and tuple(found[name]) != tuple(tensor.shape)
    ]
    if missing or unexpected or differing:
        raise MismatchedWeightsError(missing, unexpected, differing)


def _place(tensor: torch.Tensor) -> object:
    part = local_part(tensor)
    return (part.data_ptr(), tensor.shape) if part.numel() else id(tensor)


def _rng_files(path: Path) -> list[str]:
    """The files of generators: that of one process, or one for each of several."""
    names = [RNG] if (path / RNG).exists() else []
    while (path / rng_file(len(names))).exists():
        names.append(rng_file(len(names)))
    return names


def _compare_worlds(path: Path, world: World) -> None:
    made_by = len(_rng_files(path))
    if made_by in (0, world.size) or world.rank:
        return
    log.warning(
        "%s was made by %d processes and %d go on with it: weights, optimizer and schedule are "
        "exact, but random numbers are others, the loss logged next is near, and the place in the "
        "data is found by optimizer steps if the batches of all together have another size",
        path,
        made_by,
        world.size,
    )


def _read_rng(
    path: Path, world: World
) -> tuple[RngState | None, RngState | None, Mapping[str, object]]:
    """This process's generators, now and when the epoch began, and what its loop keeps."""
    names = _rng_files(path)
    name = names[world.rank] if world.rank < len(names) else RNG
    tree = read_tree(path, name, also=numpy_globals())
    if tree is None:
        return None, None, {}
    own = tree.get(OWN) if len(names) == world.size else None
    try:
        begun = cast("dict[str, object] | None", tree.get(EPOCH_START))
        rng, start = RngState.from_dict(tree), RngState.from_dict(begun) if begun else None
        return rng, start, dict(cast("Mapping[str, object]", own)) if own else {}
    except (ValueError, AttributeError, TypeError) as error:
        raise DamagedCheckpointError(path, name, f"cannot be used: {error}") from error
