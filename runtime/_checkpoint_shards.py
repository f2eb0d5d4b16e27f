"""Writes one process's part of a checkpoint of sharded training.

    rank 0       │ folder ─► its name ─► own shard, everything whole ─► waits for all ─► manifest,
                 │                                                      with their records ─► rename
    other ranks  │           waits for it ─► own shard ─► sizes and checksums

All of it happens on the threads that write checkpoints; names and records go through the store that
the processes share, tensors only to the disk. So a checkpoint is visible with all shards or not at
all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - untyped path

from runtime._boxes import Box
from runtime._checkpoint_files import Kind, rank_file
from runtime._checkpoint_manifest import FileRecord, file_record
from runtime._checkpoint_pieces import SHARD, ShardHeader
from runtime._checkpoint_trees import copy_tree

if TYPE_CHECKING:
    from runtime._checkpoint_snapshot import Snapshot
    from runtime._rank_shards import ShardTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Which part of a checkpoint a process writes, and with whom.

    Attributes:
        rank: The process.
        size: How many write.
        boxes: The part that the process holds of each sharded tensor, by its place:
            `model.<name>` or `optimizer.state.<number>.<name>`. The first process writes
            everything else.
        tied: Further names of weights, with the name that each is kept under.
        turn: How the processes meet at this checkpoint.
    """

    rank: int
    size: int
    boxes: Mapping[str, Box]
    tied: Mapping[str, str]
    turn: "ShardTurn"


def write_shard(folder: Path, snapshot: "Snapshot", shard: Shard) -> dict[str, FileRecord]:
    """Write this process's files into a checkpoint's folder.

    Returns:
        What each of them is, by its name.

    Raises:
        OSError: The disk refused.
    """
    model = {f"model.{name}": each for name, each in snapshot.model.items()}
    own = {name: each for name, each in model.items() if name in shard.boxes or not shard.rank}
    named = {name.removeprefix("model."): each for name, each in own.items()}
    files = [_write(folder, "model", named, shard)]
    if "optimizer" in snapshot.trees:
        pieces, _ = split(snapshot.trees["optimizer"], shard)
        files.append(_write(folder, "optimizer", pieces, shard))
    return {name: file_record(folder / name, sync=True) for name in files}


def write_part(output: Path, snapshot: "Snapshot", shard: Shard) -> None:
    """Write the part of a process that is not the first, and tell the first one.

    Args:
        output: The folder of checkpoints.
        snapshot: The tensors.
        shard: Which part.

    Raises:
        OSError: The disk refused, or the first process has failed or is silent.
    """
    folder = output / shard.turn.folder()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}, into which the first rank writes, is not seen by rank {shard.rank}; put "
            "output_dir on a disk that all machines share"
        )
    shard.turn.hand_over(write_shard(folder, snapshot, shard))


def split(
    tree: Mapping[str, object], shard: Shard
) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """An optimizer's sharded tensors by their place, and the rest with empty ones instead."""
    pieces: dict[str, torch.Tensor] = {}

    def take(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name not in shard.boxes:
            return tensor
        pieces[name] = tensor
        return torch.empty(0)

    return pieces, copy_tree("optimizer", tree, take)


def _write(folder: Path, kind: Kind, tensors: Mapping[str, torch.Tensor], shard: Shard) -> str:
    name = rank_file(kind, shard.rank, shard.size)
    prefix = "model." if kind == "model" else ""
    boxes = {key: shard.boxes.get(f"{prefix}{key}") for key in tensors}
    header = ShardHeader(
        pieces={key: (list(box.offset), list(box.whole)) for key, box in boxes.items() if box},
        tied=dict(shard.tied) if kind == "model" else {},
    )
    found = {key: each.contiguous() for key, each in tensors.items()}
    metadata = {"format": "pt", SHARD: header.model_dump_json()}
    try:
        save_file(found, folder / name, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{name} cannot be written: {error}") from error
    return name
