"""The part of `Run` that observes: `monitor` for speed and machine, kept beside its logging."""

import math
from abc import abstractmethod
from pathlib import Path

from runtime._hot_path import MetricsLogger
from runtime._monitors import Monitor
from runtime._monitors_gpu import AllocatorSource, CudaDevices, NvmlSource, load_nvml
from runtime._monitors_host import HostSource
from runtime._monitors_probes import Probes, Source


class Monitored(MetricsLogger):
    """A run that can have a monitor."""

    _monitor: Monitor | None = None

    @property
    @abstractmethod
    def dir(self) -> Path:
        """The run's folder."""

    @property
    def active_monitor(self) -> Monitor | None:
        """What `monitor` made last; a loop that belongs to the run tells it of each step."""
        return self._monitor

    def monitor(
        self,
        *,
        host: bool = True,
        gpu: bool = True,
        interval: float = 10.0,
        peak_flops: float | None = None,
    ) -> Monitor:
        """Publish throughput and the machine's state at intervals until the run closes.

        Readings happen on a thread of their own and take less than 0.5 % of a core: where they
        cost more, the interval grows. The last one is published when the run closes. A second
        monitor replaces the first.

        Args:
            host: Whether CPU, memory, disk and network are read; needs psutil.
            gpu: Whether the GPUs in use are read: their memory, and with nvidia-ml-py utilisation,
                power and temperature.
            interval: Seconds between two readings.
            peak_flops: Operations a second that the hardware can do, for the utilisation (MFU) of
                a loop that tells its operations; see `runtime.peak_flops`.

        Returns:
            What a loop of one's own tells about its steps; without that there is no throughput.

        Raises:
            ValueError: `interval` or `peak_flops` is not positive and finite.
        """
        if not 0 < interval < math.inf:
            raise ValueError(f"interval={interval} must be seconds between readings, more than 0")
        if peak_flops is not None and not 0 < peak_flops < math.inf:
            raise ValueError(
                f"peak_flops={peak_flops} must be operations a second, more than 0, or None"
            )
        self.end_monitoring()
        sources: list[Source] = [HostSource(self.dir)] if host else []
        if gpu:
            devices = CudaDevices()
            sources += [AllocatorSource(devices), NvmlSource(devices, load_nvml)]
        monitor = Monitor(self, Probes(sources), interval=interval, peak_flops=peak_flops)
        if not self.refuses_more():
            self._monitor = monitor
            monitor.start()
        return monitor

    def end_monitoring(self) -> None:
        """Close the monitor if there is one; `close` does it too."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
