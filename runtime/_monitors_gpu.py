"""Finds what can be told about the GPUs this process uses, without a word to the GPUs themselves.

Driver (NVML) and torch's allocator answer on the host; nothing here waits for a device or makes a
CUDA context. A GPU is in use once this process holds memory on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, cast

import torch

from runtime._monitors_probes import Probe

_MILLIWATTS: Final = 1000

_ALLOCATOR: Final = {
    "allocated_bytes": "allocated_bytes.all.current",
    "peak_allocated_bytes": "allocated_bytes.all.peak",
    "reserved_bytes": "reserved_bytes.all.current",
    "allocation_retries": "num_alloc_retries",
    "out_of_memory_errors": "num_ooms",
}
"""Our names and those of `torch.cuda.memory_stats`."""


class Devices(Protocol):
    """The GPUs of this process, by torch's index."""

    def in_use(self) -> Iterable[int]:
        """Those on which it holds memory."""
        ...

    def uuid(self, index: int) -> str:
        """The driver's name for one."""
        ...

    def memory(self, index: int) -> Mapping[str, int]:
        """What `torch.cuda.memory_stats` says of one."""
        ...


class CudaDevices:
    """Torch's CUDA devices, left alone until training has begun to use them."""

    def in_use(self) -> list[int]:
        """Those on which torch's allocator holds memory."""
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return []
        return [i for i in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(i)]

    def uuid(self, index: int) -> str:
        """The driver's name for one."""
        said = cast("_Properties", torch.cuda.get_device_properties(index))  # pyright: ignore[reportUnknownMemberType] - torch
        return f"GPU-{said.uuid}"

    def memory(self, index: int) -> Mapping[str, int]:
        """What `torch.cuda.memory_stats` says of one."""
        return cast("Mapping[str, int]", torch.cuda.memory_stats(index))


class _Properties(Protocol):
    """The part of torch's device properties that is used here."""

    uuid: object


class Nvml(Protocol):
    """The part of the package `pynvml` (of nvidia-ml-py) that is used here."""

    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names, here and below
    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> object: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: object, /) -> "Utilization": ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: object, /) -> "Memory": ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: object, /) -> int: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: object, sensor: int, /) -> int: ...  # noqa: N802


class Utilization(Protocol):
    """NVML's `nvmlUtilization_t`: percent of the last sampling period."""

    gpu: int


class Memory(Protocol):
    """NVML's `nvmlMemory_t`, in bytes, of all processes together."""

    used: int
    total: int


class _PerDevice(ABC):
    """Probes of each device from the moment it is in use."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._known: set[int] = set()

    def find(self) -> list[Probe]:
        """Those of devices that are in use since the call before."""
        new = [index for index in self._devices.in_use() if index not in self._known]
        self._known.update(new)
        return [probe for index in new for probe in self._of(index)]

    @abstractmethod
    def _of(self, index: int) -> list[Probe]:
        """One device's probes."""


class AllocatorSource(_PerDevice):
    """What torch's caching allocator holds on each device."""

    name = "device memory metrics"

    def _of(self, index: int) -> list[Probe]:
        return [Probe(f"device memory of gpu{index}", lambda: self._read(index))]

    def _read(self, index: int) -> dict[str, float]:
        said = self._devices.memory(index)
        return {
            f"gpu{index}/{ours}": float(said[theirs])
            for ours, theirs in _ALLOCATOR.items()
            if theirs in said
        }


class NvmlSource(_PerDevice):
    """What NVIDIA's driver says of each device: utilisation, memory, power, temperature.

    Args:
        devices: The devices.
        load: Imports `pynvml`; called when a device is in use for the first time.
    """

    name = "GPU metrics"

    def __init__(self, devices: Devices, load: Callable[[], Nvml]) -> None:
        super().__init__(devices)
        self._load = load
        self._nvml: Nvml | None = None

    def _of(self, index: int) -> list[Probe]:
        if self._nvml is None:
            nvml = self._load()
            nvml.nvmlInit()
            self._nvml = nvml
        nvml, gpu = self._nvml, f"gpu{index}"
        handle = nvml.nvmlDeviceGetHandleByUUID(self._devices.uuid(index))

        def temperature() -> float:
            return nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)

        def memory() -> dict[str, float]:
            said = nvml.nvmlDeviceGetMemoryInfo(handle)
            return {
                f"{gpu}/memory_used_bytes": float(said.used),
                f"{gpu}/memory_percent": 100 * said.used / said.total,
            }

        def utilization() -> float:
            return nvml.nvmlDeviceGetUtilizationRates(handle).gpu

        def power() -> float:
            return nvml.nvmlDeviceGetPowerUsage(handle) / _MILLIWATTS

        # One probe each, because boards differ in which of these they can tell.
        return [
            Probe(f"memory of {gpu}", memory),
            _single(f"{gpu}/utilization_percent", utilization),
            _single(f"{gpu}/power_watts", power),
            _single(f"{gpu}/temperature_celsius", temperature),
        ]


def load_nvml() -> Nvml:
    """Import `pynvml`.

    Raises:
        ImportError: nvidia-ml-py is not installed.
    """
    try:
        import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415 - optional # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(str(error), name="nvidia-ml-py") from error
    return cast("Nvml", pynvml)


def _single(key: str, read: Callable[[], float]) -> Probe:
    return Probe(key, lambda: {key: float(read())})
