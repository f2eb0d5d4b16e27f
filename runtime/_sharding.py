"""Shards a model over the processes that train it, with torch's `fully_shard`.

    rank 0's weights ─► blocks, innermost first, then the model: fully_shard ─► each rank its shard

Each block's parameters are gathered when it is computed and let go afterwards; gradients are the
mean over all processes, and each keeps its shard of them. The model stays the object it was; its
parameters are DTensors from now on.
"""

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import torch

from runtime._boxes import box_of, local_part
from runtime._sharding_options import ShardingOptions

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

    from runtime._arguments import TrainingArguments
    from runtime._process_group import ProcessGroup

log = logging.getLogger("runtime")

_NOTHING: Final = contextlib.nullcontext()


class ShardedModel:
    """A model of which every process holds a part.

    Args:
        model: Changed in place. One that its user has sharded with `fully_shard` is taken as it is.
            It may be on the meta device on every process but the first.
        options: How to shard it.
        args: Their precision is that of the computation; sums of gradients have float32.
        group: The processes; all of them make it.

    Attributes:
        module: The model, to be called by all processes equally often.

    Raises:
        ValueError: There is no block of a class that `options` name, or models differ.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        options: ShardingOptions,
        args: "TrainingArguments",
        group: "ProcessGroup",
    ) -> None:
        self.module = model
        self._exchanges_each = options.sync_each_batch
        if not is_sharded(model):
            _shard(model, options, args, group)

    def keeping_gradients(self) -> contextlib.AbstractContextManager[None]:
        """A context in which gradients add up in this process, whole, and are not exchanged."""
        return _NOTHING if self._exchanges_each else self._unsynchronized()

    def forget_gradients(self) -> None:
        """Drop gradients that have added up and were not exchanged."""
        for each in self._parts():
            state = cast("Any", each)._get_fsdp_state()  # noqa: SLF001 - no public name
            groups = getattr(state, "_fsdp_param_groups", None)
            if groups is None:  # older versions of torch
                groups = [state._fsdp_param_group]  # noqa: SLF001 - as above
            for parameter in (one for group in groups if group for one in group.fsdp_params):
                parameter.unsharded_accumulated_grad = None

    def reshard(self) -> None:
        """Let go of what a forward pass has gathered and no backward pass will let go of."""
        for each in self._parts():
            each.reshard()

    @contextlib.contextmanager
    def _unsynchronized(self) -> Generator[None]:
        root = cast("FSDPModule", self.module)
        root.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            root.set_requires_gradient_sync(True)

    def _parts(self) -> "Iterable[FSDPModule]":
        return (cast("FSDPModule", each) for each in self.module.modules() if is_sharded(each))


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether `fully_shard` was applied to a module; without importing it, which takes a second."""
    return callable(getattr(module, "set_requires_gradient_sync", None))


def blocks_of(model: torch.nn.Module, options: ShardingOptions) -> list[torch.nn.Module]:
    """The modules that are gathered one at a time, inner ones first; the model itself apart.

    None of them shares a parameter with the rest of the model: tied weights stay with the model.

    Raises:
        ValueError: There is no module of a class that the options name.
    """
    if options.auto_wrap_policy == "NO_WRAP":
        return []
    by_size = options.min_num_params and options.auto_wrap_policy != "TRANSFORMER_BASED_WRAP"
    found = _by_size(model, options.min_num_params) if by_size else _by_class(model, options)
    everywhere = _uses(model)
    return [each for each in found if all(everywhere[key] == n for key, n in _uses(each).items())]


def _by_class(model: torch.nn.Module, options: ShardingOptions) -> list[torch.nn.Module]:
    wanted = set(options.transformer_layer_cls_to_wrap or _own_blocks(model))
    inner = [each for each in _inside_out(model) if each is not model]
    known = {type(each).__name__ for each in inner}
    missing = sorted(wanted - known)
    if missing and options.transformer_layer_cls_to_wrap:
        raise ValueError(
            f"fsdp_config['transformer_layer_cls_to_wrap'] names {', '.join(missing)}, and "
            f"{type(model).__name__} has no such block; it has {', '.join(sorted(known))}"
        )
    return [each for each in inner if type(each).__name__ in wanted]


def _own_blocks(model: torch.nn.Module) -> Iterable[str]:
    """What a model of Transformers says its blocks are."""
    names: object = getattr(model, "_no_split_modules", None)
    return [str(name) for name in cast("Iterable[object]", names)] if names else []


def _by_size(model: torch.nn.Module, least: int) -> list[torch.nn.Module]:
    """Modules with at least so many parameters that are in no block inside of them."""
    found: list[torch.nn.Module] = []
    taken: set[int] = set()
    for module in _inside_out(model):
        rest = {id(each): each.numel() for each in module.parameters() if id(each) not in taken}
        called = type(module) not in (torch.nn.ModuleList, torch.nn.ModuleDict)
        if module is not model and called and sum(rest.values()) >= least:
            found.append(module)
            taken |= rest.keys()
    return found


def _inside_out(model: torch.nn.Module) -> list[torch.nn.Module]:
    return list(reversed(list(model.modules())))


def _uses(module: torch.nn.Module) -> Counter[int]:
    """How often each parameter has a place."""
    named = module.named_parameters(remove_duplicate=False)
    return Counter(id(each) for _, each in named)


def _shard(
    model: torch.nn.Module,
    options: ShardingOptions,
    args: "TrainingArguments",
    group: "ProcessGroup",
) -> None:
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - slow, and seldom
    from torch.distributed.fsdp import (  # noqa: PLC0415 - as above
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    sums = torch.float32 if dtype is not None else None
    offloads = options.cpu_offload and group.device.type != "cpu"
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(group.device.type, (group.world.size,)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=sums),
        "offload_policy": CPUOffloadPolicy() if offloads else OffloadPolicy(),
    }
    _fill_in(model)
    before = _tensors(model)
    _check_alike(before, group)
    if group.world.rank:  # of whose tensors nothing but their form is needed
        before = {name: each.to("meta") for name, each in before.items()}
    blocks = blocks_of(model, options)
    if not blocks:
        log.warning(
            "%s has no blocks to shard one at a time, so each step gathers all of it at once; set "
            "fsdp_config={'transformer_layer_cls_to_wrap': ...} or 'min_num_params'",
            type(model).__name__,
        )
    for block in blocks:
        if options.activation_checkpointing:
            _recompute(block)
        fully_shard(block, reshard_after_forward=options.reshard_after_forward, **settings)
    # The backward pass begins with what the model has gathered for itself, so it keeps that.
    fully_shard(model, reshard_after_forward=False, **settings)
    _spread(before, _tensors(model), group)


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer once, those that no checkpoint holds too."""
    return {
        name: each.detach() for name, each in (*model.named_parameters(), *model.named_buffers())
    }


def _fill_in(model: torch.nn.Module) -> None:
    """Give what is on the meta device a place on the host; untouched, it takes no memory there."""
    made: dict[int, torch.Tensor] = {}  # tied weights stay tied, as `to_empty` does not have it
    for module in model.modules():
        named = (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        )
        for name, each in named:
            if each.is_meta and id(each) not in made:
                empty = torch.empty_like(each, device="cpu")
                parameter = isinstance(each, torch.nn.Parameter)
                made[id(each)] = (
                    torch.nn.Parameter(empty, each.requires_grad) if parameter else empty
                )
            if each.is_meta:
                setattr(module, name, made[id(each)])


def _check_alike(tensors: Mapping[str, torch.Tensor], group: "ProcessGroup") -> None:
    """Refuse models that differ, instead of waiting for each other.

    Raises:
        ValueError: Naming the ranks whose model is another than the first one's.
    """
    described = [f"{name} {each.dtype} {list(each.shape)}" for name, each in tensors.items()]
    everybody = group.collected(hashlib.sha256("\n".join(described).encode()).hexdigest())
    others = [rank for rank, digest in enumerate(everybody) if digest != everybody[0]]
    if others:
        raise ValueError(
            f"the models of ranks {', '.join(map(str, others))} have other parameters or buffers "
            "than that of rank 0; make the same model on every rank, with the same tied weights"
        )


def _spread(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], group: "ProcessGroup"
) -> None:
    """Give everybody its part of the first process's values, one tensor after another."""
    first = not group.world.rank
    for name, target in after.items():
        source = before[name]
        if first:
            whole = source.to(group.device)
        else:
            whole = torch.empty(source.shape, dtype=source.dtype, device=group.device)
        group.spread([whole])
        local_part(target).copy_(whole[box_of(target).slices()])


def _recompute(block: torch.nn.Module) -> None:
    """Have a block compute its activations again; its parameters keep their names."""
    from torch.distributed._composable import checkpoint_activation  # noqa: PLC0415 - slow, and seldom

    cast("Any", checkpoint_activation).checkpoint(block)
