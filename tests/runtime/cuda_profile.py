"""What CUDA did in a stretch of code: kernels, copies to the host, and calls that wait."""

from typing import Self

import torch

WAITS = frozenset(
    {"cudaStreamSynchronize", "cudaEventSynchronize", "cuStreamSynchronize", "cudaMemcpy"}
)
"""Calls of the CUDA runtime that wait for the device.

`cudaDeviceSynchronize` is missing: the profiler itself calls it when it stops.
"""


class Profile:
    """A profile of the code within it, all of whose work the device has done in the end.

    Attributes:
        on_device: Everything that the device did, by name.
        copies: Copies to the host among that.
        kernels: Kernels among that.
        waits: Calls that have waited for the device, on any thread.
    """

    def __init__(self) -> None:
        self.on_device: list[str] = []
        self.copies: list[str] = []
        self.kernels: list[str] = []
        self.waits: list[str] = []
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        self._profile = torch.profiler.profile(activities=activities)

    def __enter__(self) -> Self:
        torch.cuda.synchronize()
        self._profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.synchronize()
        self._profile.__exit__(None, None, None)
        events = self._profile.events() or []
        device = torch.autograd.DeviceType.CUDA
        self.waits = [each.name for each in events if each.name in WAITS]
        self.on_device = [each.name for each in events if each.device_type == device]
        self.copies = [name for name in self.on_device if name.startswith("Memcpy DtoH")]
        others = ("Memcpy", "Memset", "Context Sync", "Stream Sync", "Event Sync", "Stream Wait")
        self.kernels = [name for name in self.on_device if not name.startswith(others)]
