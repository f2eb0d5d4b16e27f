"""Takes the values of tensors without waiting for their device.

Per call and dtype one kernel packs the scalars and one non-blocking copy carries them to pinned
host memory; an event behind the copy says when they have arrived. Whatever happens to the tensors
afterwards, the packed values are those of the moment of the call. The writer thread polls.

CPU tensors hold their value already: they are read at once, in the same call.
"""

import ctypes
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import torch

from bus import DeviceValues
from runtime._metrics import pack_alike

log = logging.getLogger("runtime")

_THREAD_LOCAL: Final = 1  # cudaStreamCaptureModeThreadLocal


class Snapshots(Protocol):
    """Copies scalars off one kind of device. Give `runtime.Run` your own for an unusual one."""

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues:
        """Start copying detached tensors of one element; on the publishing thread, no waiting."""
        ...


class HostValues:
    """Values that are here already."""

    def __init__(self, values: dict[str, float]) -> None:
        self._values = values

    def ready(self) -> bool:
        """They always are."""
        return True

    def values(self) -> dict[str, float]:
        """The numbers by metric."""
        return self._values


class CpuSnapshots:
    """Reads CPU tensors; nothing has to be waited for."""

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues:
        """Read the tensors now."""
        return HostValues({key: float(tensor.item()) for key, tensor in tensors.items()})


class AnyDeviceSnapshots:
    """Reads tensors of a device we know no asynchronous way for; waits for that device.

    One transfer per call. `Run` says so once.
    """

    def __init__(self, kind: str) -> None:
        log.warning("logging tensors on %r waits for that device at each call", kind)

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues:
        """Copy and read the tensors now."""
        packed = torch.stack([each.reshape(()).to(torch.float32) for each in tensors.values()])
        return HostValues(dict(zip(tensors, _numbers(packed), strict=True)))


class CudaSnapshots:
    """Packs CUDA scalars by device and dtype and copies each pack to pinned memory."""

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues:
        """Start the copies on each device's current stream.

        Raises:
            RuntimeError: The stream is being captured into a CUDA graph, where a value taken now
                would be overwritten by each replay.
        """
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "it was logged while a CUDA graph is captured; log the graph's output after replay"
            )
        groups: dict[tuple[int, torch.dtype], list[str]] = {}
        for key, tensor in tensors.items():  # a device's number is cheaper than its object
            groups.setdefault((tensor.get_device(), tensor.dtype), []).append(key)
        return CudaValues([_carry(keys, _pack(tensors, keys)) for keys in groups.values()])

    def take_alike(self, metrics: "dict[Any, Any]") -> "CudaValues | None":
        """Take scalars of one device and dtype, at less cost; None if they are not such.

        Args:
            metrics: What was handed to `Run.log`, not looked at yet; nobody else may change it
                meanwhile.
        """
        if torch.cuda.is_current_stream_capturing():
            return None
        row = pack_alike(metrics)
        return None if row is None else CudaValues([_carry(list(metrics), row)])


class CudaValues:
    """Scalars on their way from one or more CUDA devices."""

    def __init__(self, packs: "list[tuple[list[str], torch.Tensor, torch.cuda.Event]]") -> None:
        self._packs = packs

    @property
    def names(self) -> frozenset[str]:
        """Of what metrics."""
        return frozenset(key for keys, _, _ in self._packs for key in keys)

    def ready(self) -> bool:
        """Whether every copy has arrived; asks the driver and does not wait."""
        allow_polling_beside_captures()
        return all(_arrived(event) for _, _, event in self._packs)

    def values(self) -> dict[str, float]:
        """The numbers by metric."""
        found: dict[str, float] = {}
        for keys, row, _ in self._packs:
            found.update(zip(keys, _numbers(row), strict=True))
        return found


def _pack(tensors: Mapping[str, torch.Tensor], keys: list[str]) -> torch.Tensor:
    with torch.no_grad():
        scalars = (tensors[key] for key in keys)
        return torch.stack([each if each.dim() == 0 else each.reshape(()) for each in scalars])


def _carry(
    keys: list[str], packed: torch.Tensor
) -> "tuple[list[str], torch.Tensor, torch.cuda.Event]":
    with torch.cuda.device(packed.get_device()):
        # The pinned row comes from torch's caching host allocator, which gives a block out again
        # only when the copies recorded on it are over.
        row = torch.empty(len(keys), dtype=packed.dtype, device="cpu", pin_memory=True)
        row.copy_(packed, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record()
    return keys, row, event


def _arrived(event: "torch.cuda.Event") -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _numbers(row: torch.Tensor) -> list[float]:
    values = cast("list[float]", row.tolist())  # pyright: ignore[reportUnknownMemberType] - torch
    return [float(value) for value in values]


_polling: Final = threading.local()


def allow_polling_beside_captures() -> None:
    """Keep this thread's event queries from invalidating another thread's graph capture.

    By default CUDA forbids them while any thread captures in "global" mode. The remedy is the one
    NCCL's watchdog uses: this thread's own capture mode becomes "thread local", once.
    See `cudaThreadExchangeStreamCaptureMode` in the CUDA runtime's documentation.
    """
    if getattr(_polling, "allowed", False) or threading.current_thread() is threading.main_thread():
        return
    _polling.allowed = True
    library = _cuda_runtime()
    if library is None:
        log.warning("the CUDA runtime was not found; log nothing while another thread captures")
        return
    mode = ctypes.c_int(_THREAD_LOCAL)
    library.cudaThreadExchangeStreamCaptureMode(ctypes.byref(mode))


def _cuda_runtime() -> ctypes.CDLL | None:
    """The CUDA runtime that torch has loaded into this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"(/\S*libcudart\S*\.so\S*)", maps)
    return ctypes.CDLL(match[1]) if match else None


class DeviceReader:
    """Chooses how to take tensors by the kind of device they are on.

    Args:
        snapshots: Ways by device type, such as `{"npu": MySnapshots()}`; they go before ours.

    Attributes:
        reads_cpu: Whether CPU tensors are simply read, nobody having asked for another way.
    """

    def __init__(self, snapshots: Mapping[str, Snapshots] | None = None) -> None:
        self._by_kind: dict[str, Snapshots] = dict(snapshots or {})
        self.reads_cpu = "cpu" not in self._by_kind

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues:
        """Start copying; tensors of several kinds of device may be mixed."""
        if self.reads_cpu and all(tensor.is_cpu for tensor in tensors.values()):
            return self._of("cpu").take(tensors)
        if all(tensor.is_cuda for tensor in tensors.values()):
            return self._of("cuda").take(tensors)
        by_kind: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            by_kind.setdefault(tensor.device.type, {})[key] = tensor
        parts = [self._of(kind).take(group) for kind, group in by_kind.items()]
        return parts[0] if len(parts) == 1 else _Together(parts)

    def take_alike(self, metrics: object) -> CudaValues | None:
        """Start copying what was handed to `Run.log` as it is; None if it must be sorted first."""
        if type(metrics) is not dict:
            return None
        plain: dict[Any, Any] = metrics  # pyright: ignore[reportUnknownVariableType] - of anything
        first = next(iter(plain.values()), None)
        if type(first) is not torch.Tensor or not first.is_cuda:
            return None
        taker = self._of("cuda")
        # Somebody's own way takes what is sorted, as `Snapshots` promises.
        return taker.take_alike(dict(plain)) if type(taker) is CudaSnapshots else None

    def _of(self, kind: str) -> Snapshots:
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = _default(kind)
        return found


def _default(kind: str) -> Snapshots:
    if kind == "cpu":
        return CpuSnapshots()
    return CudaSnapshots() if kind == "cuda" else AnyDeviceSnapshots(kind)


class _Together:
    """Values from several kinds of device."""

    def __init__(self, parts: list[DeviceValues]) -> None:
        self._parts = parts

    def ready(self) -> bool:
        return all(part.ready() for part in self._parts)

    def values(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for part in self._parts:
            found.update(part.values())
        return found
