"""Copies live training state to host memory without the host waiting for a device.

CPU tensors are copied at once. CUDA tensors are copied to pinned memory on a stream of their own
that starts after the work enqueued so far:

    forward ─ backward ─ step ─┬─ forward ─ backward ─ ■ step       current stream
                               └─ copies to pinned memory ┘         copying stream

What only an optimizer changes (parameters and its own state) is waited for at ■, by the stream and
not by the host: `before_update` puts the wait there. For everything else the stream waits at once.

The buffers are reused by the next snapshot, so that a snapshot must have been written by then. They
take as much host memory as the state itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_trees import copy_tree, untie
from runtime._device import allow_polling_beside_captures


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state at one moment, on the host.

    Attributes:
        model: The weights, each storage once.
        tied: The name kept, by each further name of the same tensor.
        trees: Optimizer, scheduler, scaler and loop, those that there are.
    """

    model: dict[str, torch.Tensor]
    tied: dict[str, str]
    trees: dict[str, dict[str, object]]
    _arriving: "list[torch.cuda.Event]" = field(default_factory=list["torch.cuda.Event"])
    # Memory given back to the device's allocator could be overwritten before it is copied.
    _sources: list[torch.Tensor] = field(default_factory=list[torch.Tensor])

    def wait(self) -> None:
        """Wait until the values have arrived; on the writer thread."""
        if self._arriving:
            allow_polling_beside_captures()
        for event in self._arriving:
            event.synchronize()
        self._sources.clear()


class Snapshotter:
    """Takes snapshots, one at a time.

    Args:
        reuse: Copy CPU tensors, into buffers that stay for the next snapshot. Otherwise CPU tensors
            are handed on as they are and must not change until they are written.
    """

    def __init__(self, *, reuse: bool) -> None:
        self._reuse = reuse
        self._buffers: dict[tuple[str, bool], torch.Tensor] = {}
        self._used: dict[tuple[str, bool], torch.Tensor] = {}
        self._sources: list[torch.Tensor] = []
        self._storages: set[int] = set()
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._copying: set[torch.device] = set()

    def take(self, contents: CheckpointContents) -> Snapshot:
        """Copy what the contents hold; returns as soon as the copies are enqueued.

        Raises:
            UnsavableStateError: A tensor has no plain form on the host.
        """
        self._used, self._sources, self._storages = {}, [], set()
        self.before_update()  # copies nobody has waited for yet; those to come wait for what is new
        with torch.no_grad():
            distinct, tied = untie(contents.model)
            lasting = {k for k, each in distinct.items() if isinstance(each, torch.nn.Parameter)}
            model = self._weights({k: each for k, each in distinct.items() if k not in lasting})
            trees = self._trees(contents, ("scheduler", "scaler", "loop"))
            self.before_update()
            model |= self._weights({k: each for k, each in distinct.items() if k in lasting})
            trees |= self._trees(contents, ("optimizer",))
        self._buffers, self._used = (self._used if self._reuse else {}), {}
        arriving = [_event(stream) for stream in self._streams.values()]
        sources, self._sources = self._sources, []
        ordered = {name: model[name] for name in distinct}
        return Snapshot(model=ordered, tied=tied, trees=trees, _arriving=arriving, _sources=sources)

    def before_update(self) -> None:
        """Let each device's stream wait for copies under way; the host does not.

        To be called before parameters or optimizer state are changed in place; costs a comparison
        when nothing is under way.
        """
        if self._copying:
            for device in self._copying:
                torch.cuda.current_stream(device).wait_stream(self._streams[device])
            self._copying.clear()

    def forget(self) -> None:
        """Let go of the buffers."""
        self._buffers = {}

    def _weights(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: self._copy(f"model.{name}", each) for name, each in weights.items()}

    def _trees(
        self, contents: CheckpointContents, names: tuple[str, ...]
    ) -> dict[str, dict[str, object]]:
        found = {name: getattr(contents, name) for name in names}
        copies = {name: copy_tree(name, tree, self._copy) for name, tree in found.items() if tree}
        return cast("dict[str, dict[str, object]]", copies)

    def _copy(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        if tensor.device.type == "cuda":
            return self._copy_from_cuda(name, tensor)
        if tensor.device.type != "cpu":
            return tensor.to("cpu")
        if self._reuse:
            return self._buffer(name, tensor, pinned=False).copy_(tensor)
        storage = tensor.untyped_storage().data_ptr()
        shared = storage in self._storages
        self._storages.add(storage)
        return tensor.clone() if shared else tensor

    def _copy_from_cuda(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        target = self._buffer(name, tensor, pinned=True)
        with torch.cuda.stream(self._stream(tensor.device)):
            target.copy_(tensor, non_blocking=True)
        self._sources.append(tensor)
        return target

    def _buffer(self, name: str, like: torch.Tensor, *, pinned: bool) -> torch.Tensor:
        """A host tensor for the values of another one; that of the last snapshot if it fits."""
        strides = like.stride()
        if not like.is_contiguous():  # an expanded tensor's own strides are no use for a copy
            strides = torch.empty_like(like, device="meta").stride()
        old = self._buffers.get((name, pinned))
        if old is None or (old.shape, old.dtype, old.stride()) != (like.shape, like.dtype, strides):
            old = torch.empty_strided(
                like.shape, strides, dtype=like.dtype, device="cpu", pin_memory=pinned
            )
        self._used[name, pinned] = old
        return old

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        """The copying stream of a device, waiting for what is enqueued on the current one."""
        stream = self._streams.get(device)
        if stream is None:
            stream = self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if device not in self._copying:
            self._copying.add(device)
            stream.wait_stream(torch.cuda.current_stream(device))
        return stream


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event behind all copies; the thread that waits for it sleeps."""
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    event.record(stream)
    return event
