"""What one checkpoint consists of, as the trainer hands it over and as it comes back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from pydantic import JsonValue

from runtime._rng import RngState

if TYPE_CHECKING:
    from runtime._checkpoint_shards import Shard

StateTree: TypeAlias = Mapping[str, object]
"""Nested dictionaries, lists and tuples of tensors and plain values, as `state_dict` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContents:
    """The live state to save; what is None or empty gets no file.

    Attributes:
        model: The weights. From `state_dict(keep_vars=True)`: the copies of CUDA parameters then
            overlap with the next forward and backward pass, which change no parameter. Any other
            tensor may be changed by a forward pass, so that the stream waits for its copy at once.
        state: Gives the text of `trainer_state.json`; called on the writer thread.
        arguments: The text of `training_args.json`.
        optimizer: Its state dict.
        scheduler: Its state dict.
        scaler: Its state dict. A tensor with one element is fine where a number belongs; it is
            saved as one.
        rng: Where the generators stand.
        epoch_start: Where they stood when the epoch began, for repeating its order of samples.
        loop: What Transformers has no file for, such as running sums; tensors and plain values.
        shard: Which part of the tensors this process writes, where each of several writes one.
        extras: Writes further files, such as a model's `config.json`, into the folder it is given;
            called on the writer thread.
    """

    model: Mapping[str, torch.Tensor]
    state: Callable[[], str]
    arguments: str | None = None
    optimizer: StateTree | None = None
    scheduler: StateTree | None = None
    scaler: StateTree | None = None
    rng: RngState | None = None
    epoch_start: RngState | None = None
    loop: StateTree = field(default_factory=dict[str, object])
    shard: "Shard | None" = None
    extras: Callable[[Path], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint that is complete and visible.

    Attributes:
        path: Its folder.
        step: Optimizer steps taken when it was asked for.
        size: Bytes in it, the manifest apart.
        waited: Seconds the training thread waited for the checkpoint before to be finished.
        held: Seconds the training thread was held altogether, `waited` included.
        seconds: From asking for it until it was visible.
    """

    path: Path
    step: int
    size: int
    waited: float
    held: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedCheckpoint:
    """What a checkpoint held; None for what it has no file for.

    Attributes:
        path: Its folder.
        model: The weights by name; tied ones are one tensor under each of their names.
        state: `trainer_state.json`.
        arguments: `training_args.json`.
        rng: Where the generators stood.
        epoch_start: Where they stood when the epoch began; None in checkpoints of Transformers.
        loop: What the loop of this package keeps beyond Transformers' files; else empty.
    """

    path: Path
    model: dict[str, torch.Tensor]
    state: dict[str, JsonValue] | None
    arguments: dict[str, JsonValue] | None
    optimizer: dict[str, object] | None
    scheduler: dict[str, object] | None
    scaler: dict[str, object] | None
    rng: RngState | None
    epoch_start: RngState | None
    loop: dict[str, object]
