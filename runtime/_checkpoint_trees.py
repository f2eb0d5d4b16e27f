"""Walks nested training state: which tensors are one and the same, which cannot be saved."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from runtime._checkpoint_errors import UnsavableStateError

CopyTensor: TypeAlias = Callable[[str, torch.Tensor], torch.Tensor]

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.Size)


def untie(weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Find the names under which a tensor appears again.

    The first name in the order of the state dict keeps it: in language models that is the input
    embedding, which is what Transformers keeps too.

    Returns:
        Each tensor under its first name, and that name by each further one.
    """
    distinct: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[object, str] = {}
    for name, tensor in weights.items():
        refuse_unsavable(f"model.{name}", tensor)
        layout = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        key = (tensor.data_ptr(), *layout) if tensor.numel() else name
        if first.setdefault(key, name) == name:
            distinct[name] = tensor
        else:
            tied[name] = first[key]
    return distinct, tied


def copy_tree(name: str, tree: object, copy_tensor: CopyTensor, *, dense: bool = True) -> Any:  # noqa: ANN401 - as it was given
    """Copy nested dictionaries, lists and tuples, so that nothing that changes later is shared.

    Args:
        name: Where the tree stands, for errors and for `copy_tensor`.
        tree: State of any form; objects it holds are copied by `copy.deepcopy`.
        copy_tensor: Copies a tensor, given its place and itself.
        dense: Whether to raise `UnsavableStateError` at a tensor without a plain form on the host.
    """
    if isinstance(tree, torch.Tensor):
        if dense:
            refuse_unsavable(name, tree)
        return copy_tensor(name, tree)
    kind: type = type(tree)
    if kind in _PLAIN:
        return tree
    if kind is dict or kind is OrderedDict:
        entries = cast("dict[object, object]", tree).items()
        copied = {
            key: copy_tree(f"{name}.{key}", each, copy_tensor, dense=dense) for key, each in entries
        }
        return copied if kind is dict else OrderedDict(copied)
    if kind is list or kind is tuple:
        parts = enumerate(cast("list[object]", tree))
        items = [
            copy_tree(f"{name}.{index}", each, copy_tensor, dense=dense) for index, each in parts
        ]
        return items if kind is list else tuple(items)
    return copy.deepcopy(tree)


def with_numbers(tree: dict[str, object]) -> dict[str, object]:
    """Replace host tensors of one element by the number they hold."""
    return {
        key: each.item() if isinstance(each, torch.Tensor) and each.numel() == 1 else each
        for key, each in tree.items()
    }


def refuse_unsavable(name: str, tensor: object) -> None:
    """Raise if a tensor has no plain form on the host.

    Raises:
        UnsavableStateError: It is no tensor, has no values, or is made of several.
    """
    why = _unsavable(tensor)
    if why is not None:
        raise UnsavableStateError(name, why)


def _unsavable(tensor: object) -> str | None:
    if not isinstance(tensor, torch.Tensor):
        return f"it is a {type(tensor).__name__} among the weights"
    if torch.nn.parameter.is_lazy(tensor):
        return "it has no shape yet; run the model once before saving it"
    if is_traceable_wrapper_subclass(tensor):
        return f"it is a {type(tensor).__name__}, made of several tensors"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"it is {tensor.layout if not tensor.is_quantized else 'quantized'}, not dense"
    if tensor.is_meta:
        return "it is on the meta device and has no values"
    return None
