"""Moves the state of a sharded training into checkpoints and back, whoever made them.

Only `whole_weights` communicates; everything else is about the part that this process holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from runtime._boxes import Box, box_of, is_distributed, is_replicated, local_part
from runtime._checkpoint_contents import StateTree
from runtime._checkpoint_errors import MismatchedStateError, UnsavableStateError
from runtime._checkpoint_files import OPTIMIZER, rank_files
from runtime._checkpoint_load import compare_weights
from runtime._checkpoint_pieces import Pieces
from runtime._checkpoint_reading import read_weights, weight_files
from runtime._checkpoint_trees import copy_tree


@dataclass(frozen=True, slots=True)
class LocalState:
    """What this process holds of a training, as plain tensors that share the memory.

    Attributes:
        weights: By name, each once.
        tied: Further names of them, with the name that each is kept under.
        optimizer: The state dict.
        boxes: Which part each sharded tensor is, by its place, as `Shard.boxes`.
    """

    weights: dict[str, torch.Tensor]
    tied: dict[str, str]
    optimizer: StateTree | None
    boxes: dict[str, Box]


def local_state(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None) -> LocalState:
    """Look at what this process holds; copies nothing.

    Raises:
        UnsavableStateError: A tensor is distributed in a way that has no one place in a file.
    """
    boxes: dict[str, Box] = {}
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    weights: dict[str, torch.Tensor] = {}
    named = cast("dict[str, torch.Tensor]", model.state_dict(keep_vars=True))
    for name, tensor in named.items():
        kept = first.setdefault(id(tensor), name)
        if kept != name:
            tied[name] = kept
            continue
        part = _local(boxes, f"model.{name}", tensor)
        # A snapshot takes its time over what only an optimizer changes, which it knows by this.
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        weights[name] = torch.nn.Parameter(part, requires_grad=False) if is_parameter else part
    tree = None
    if optimizer is not None:
        state = optimizer.state_dict()
        tree = copy_tree("optimizer", state, partial(_local, boxes), dense=False)
    return LocalState(weights, tied, tree, boxes)


def whole_weights(model: torch.nn.Module, *, keep: bool) -> dict[str, torch.Tensor]:
    """Gather the weights on the host, one after another; every process calls it.

    Args:
        model: Whose.
        keep: Whether this process wants them; it gets an empty dictionary otherwise.
    """
    found: dict[str, torch.Tensor] = {}
    known: dict[int, torch.Tensor] = {}
    state = cast("dict[str, torch.Tensor]", model.state_dict(keep_vars=True))
    for name, tensor in state.items():
        if id(tensor) not in known:
            whole = tensor.detach()
            if is_distributed(whole):
                whole = cast("torch.Tensor", whole.full_tensor())
            known[id(tensor)] = whole.cpu() if keep else torch.empty(0)
        if keep:
            found[name] = known[id(tensor)]
    return found


def load_local_weights(model: torch.nn.Module, path: Path) -> None:
    """Read this process's part of a checkpoint's weights into a sharded model.

    Raises:
        CheckpointError: The weights cannot be read, or are those of another model, which then
            stays as it was.
    """
    state = cast("dict[str, torch.Tensor]", model.state_dict(keep_vars=True))
    files = weight_files(path)
    if not all(name.endswith(".safetensors") for name in files):
        whole = read_weights(path, device=torch.device("cpu"))
        _load(state, {name: tuple(each.shape) for name, each in whole.items()}, _cut(whole))
        return
    with Pieces(path, files) as pieces:
        _load(state, pieces.shapes, pieces.read)


def _load(
    state: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str, Box], torch.Tensor],
) -> None:
    compare_weights(state, shapes)
    for name, tensor in state.items():
        if name in shapes:
            local_part(tensor).copy_(read(name, box_of(tensor)))


def _cut(whole: Mapping[str, torch.Tensor]) -> Callable[[str, Box], torch.Tensor]:
    return lambda name, box: whole[name][box.slices()]


def placed_optimizer(
    tree: dict[str, object], path: Path, optimizer: torch.optim.Optimizer
) -> dict[str, object]:
    """An optimizer's state in a checkpoint, with tensors as the optimizer's parameters are now.

    Args:
        tree: As read; tensors that were sharded are still in the files of the processes.
        path: The checkpoint.
        optimizer: Of the same parameters in the same order, sharded or not.

    Raises:
        MismatchedStateError: A tensor belongs to a parameter of another size.
        DamagedCheckpointError: A file does not hold what it should.
    """
    files = rank_files(path, "optimizer")
    parameters = list(_parameters(optimizer))
    if not files and not any(map(is_distributed, parameters)):
        return tree
    with Pieces(path, files) as pieces:

        def place(name: str, tensor: torch.Tensor) -> torch.Tensor:
            parameter = _parameter_of(name, parameters)
            sharded = name in pieces.shapes
            shape = pieces.shapes[name] if sharded else tuple(tensor.shape)
            if parameter is None or (not sharded and shape != tuple(parameter.shape)):
                return tensor
            if shape != tuple(parameter.shape):
                why = f"{name} has shape {list(shape)} instead of {list(parameter.shape)}"
                raise MismatchedStateError(path, OPTIMIZER, type(optimizer).__qualname__, why)
            box = box_of(parameter)
            return _like(parameter, pieces.read(name, box) if sharded else tensor[box.slices()])

        return cast("dict[str, object]", copy_tree("optimizer", tree, place))


def _local(boxes: dict[str, Box], name: str, tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, whose box is noted if there are others."""
    if not is_distributed(tensor):
        return tensor.detach()
    try:
        box = box_of(tensor)
    except ValueError as error:
        raise UnsavableStateError(name, str(error)) from error
    if not is_replicated(tensor):
        boxes[name] = box
    return local_part(tensor)


def _like(parameter: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """A part of a tensor, as what it is a part of: distributed as a parameter is."""
    if not is_distributed(parameter):
        return part
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - slow, and seldom

    return cast(
        "torch.Tensor",
        cast("Any", DTensor).from_local(
            part.contiguous().to(parameter.to_local().device),
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        ),
    )


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in cast("list[Mapping[str, Any]]", optimizer.param_groups):
        yield from cast("list[torch.Tensor]", group["params"])


def _parameter_of(name: str, parameters: list[torch.Tensor]) -> torch.Tensor | None:
    """The parameter that `optimizer.state.<number>.<name>` belongs to, if there is one."""
    parts = name.split(".")
    number = parts[2] if len(parts) > 3 and parts[1] == "state" else ""
    if not number.isdecimal() or int(number) >= len(parameters):
        return None
    return parameters[int(number)]
