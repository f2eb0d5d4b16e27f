"""Joins this process to those that train with it, and does with them what all do together.

Torch's process group is the engine. One that exists already is used as it is; otherwise the first
`ProcessGroup` makes it as the launcher's variables say, and the last to `leave` ends it. The
variables are those of torchrun: docs.pytorch.org/docs/stable/elastic/run.html.

Methods named in "Together" are collectives: every process calls them equally often, in the same
order. `sum` and `mean` are enqueued on the device and waited for by nobody; the others wait.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist

from runtime._rank_store import Store
from runtime._sharding_options import sharding_options
from runtime._world import World

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments

ValueT = TypeVar("ValueT")
SelfT = TypeVar("SelfT")
P = ParamSpec("P")

_LAUNCHED: Final = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets beside WORLD_SIZE."""

_torch: Final[Any] = dist
"""For what torch leaves without types, or does not export to type checkers."""

_launcher: Final[list[Any]] = []
"""Its store, once there is a connection; kept, for the first process may be who serves it."""

_groups: Final = itertools.count()
_stores: Final = itertools.count()


class ProcessGroup:
    """The processes that train together; one that is alone does everything at once.

    Args:
        args: The backend and the longest time a collective may take; where this process trains.

    Attributes:
        world: This process's place in it.
        device: Where this process trains.

    Raises:
        ValueError: The launcher's variables do not go together, or there is no device for this
            process; the message says what to set.
    """

    _members: ClassVar[int] = 0
    _made: ClassVar[bool] = False

    def __init__(self, args: "TrainingArguments") -> None:
        self.world: World = World.here()
        self._args = args
        self.device: torch.device = args.device
        self._inside = False
        self._host: dist.ProcessGroup | None = None
        self._enter()

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world.alone

    def leave(self) -> None:
        """Let go of it; the next collective joins again."""
        if not self._inside:
            return
        host, self._inside, self._host = self._host, False, None
        if host is not None and dist.is_initialized():
            dist.destroy_process_group(host)
        ProcessGroup._members -= 1
        if ProcessGroup._made and not ProcessGroup._members and dist.is_initialized():
            dist.destroy_process_group()
            ProcessGroup._made = False

    # Together.

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of everybody's tensor, on the device; the host waits for nothing."""
        if self.alone:
            return tensor
        self._enter()
        # Without `non_blocking` a host tensor would wait for all that the device has been given.
        total = tensor.detach().to(self.device, non_blocking=True, copy=True)
        _torch.all_reduce(total)
        return total

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean likewise."""
        return self.sum(tensor) / self.world.size if not self.alone else tensor

    def spread(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give everybody the first process's values, in place."""
        if self.alone:
            return
        self._enter()
        with torch.no_grad():
            for tensor in tensors:
                whole = tensor.detach().contiguous()  # nccl takes no other
                _torch.broadcast(whole, src=0)
                if whole.data_ptr() != tensor.data_ptr():
                    tensor.copy_(whole)

    def said_by_first(self, value: ValueT) -> ValueT:
        """What the first process has; waits for it."""
        if self.alone:
            return value
        values: list[Any] = [value]
        _torch.broadcast_object_list(values, src=0, group=self._for_objects())
        return cast("ValueT", values[0])

    def collected(self, value: ValueT) -> list[ValueT]:
        """What everybody has, by rank; waits for all."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world.size
        _torch.all_gather_object(values, value, group=self._for_objects())
        return values

    def _for_objects(self) -> dist.ProcessGroup | None:
        """The group for what is on the host: it takes no memory of devices and waits for none."""
        self._enter()
        if self._host is None and dist.get_backend() != "gloo":
            timeout = timedelta(seconds=self._args.ddp_timeout)
            self._host = _torch.new_group(backend="gloo", timeout=timeout)
        return self._host

    # Alone.

    def store(self) -> Store:
        """A connection of one's own to the store that all processes share.

        Each call gives keys of its own, the same in all processes that call it equally often.
        """
        self._enter()
        shared = _torch.distributed_c10d._get_default_store()  # noqa: SLF001 - no other way leads to it
        # A connection serves one thread at a time, and a wait on it would hold up torch itself.
        return cast("Store", _torch.PrefixStore(f"hotloop/store{next(_stores)}", shared.clone()))

    def _enter(self) -> None:
        if self._inside or self.alone:
            return
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            _check_launch(os.environ, self.world, self.device)
            _make_group(
                self._args.ddp_backend or _backend(self._args, self.device),
                self.world,
                timedelta(seconds=self._args.ddp_timeout),
            )
            ProcessGroup._made = True
        self._inside = True
        ProcessGroup._members += 1


def _backend(args: "TrainingArguments", device: torch.device) -> str:
    """What moves tensors between processes; those of an offloaded model are on the host too."""
    sharding = sharding_options(args.fsdp, args.fsdp_config)
    if device.type != "cuda":
        return "gloo"
    return "cpu:gloo,cuda:nccl" if sharding is not None and sharding.cpu_offload else "nccl"


def leaves_on_failure(
    construct: Callable[Concatenate[SelfT, P], None],
) -> Callable[Concatenate[SelfT, P], None]:
    """Make a constructor that has joined as `self._group` let go of it if it fails then.

    Nobody else could: there is no object to close.
    """

    @functools.wraps(construct)
    def constructor(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            construct(self, *args, **kwargs)
        except BaseException:
            joined = getattr(self, "_group", None)
            if isinstance(joined, ProcessGroup):
                joined.leave()
            raise

    return constructor


def _make_group(backend: str, world: World, timeout: timedelta) -> None:
    """Make the process group, on a part of the launcher's store that no other has used.

    A group made anew would otherwise read the addresses that the one before left there, and wait
    for them; torchrun keeps its store when it restarts its workers.
    """
    if not _launcher:
        _launcher.append(next(iter(_torch.rendezvous("env://", timeout=timeout)))[0])
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = _torch.PrefixStore(f"hotloop/{restarts}/group{next(_groups)}", _launcher[0])
    dist.init_process_group(
        backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout
    )


def _check_launch(environment: Mapping[str, str], world: World, device: torch.device) -> None:
    """Refuse to wait for processes that nobody has started, or to share a device.

    Raises:
        ValueError: Naming what is missing.
    """
    missing = [name for name in _LAUNCHED if not environment.get(name)]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        raise ValueError(
            f"WORLD_SIZE={world.size} says that {world.size} processes train together, but "
            f"{', '.join(missing)} {are} not set: start the script with torchrun "
            f"--nproc-per-node N, set {'them' if len(missing) > 1 else 'it'} in the job's script, "
            "or unset WORLD_SIZE to train in one process"
        )
    if device.type == "cuda" and world.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"LOCAL_RANK={world.local_rank} has no GPU of its own: this machine shows "
            f"{torch.cuda.device_count()}; start that many processes on it "
            f"(--nproc-per-node {torch.cuda.device_count()}), or set use_cpu=True"
        )
