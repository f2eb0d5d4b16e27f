"""The part of `Run` that observes: `monitor` for speed and machine, `watch` for a model."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch

from bus import Bus, DeviceEvent
from runtime._device import Snapshots
from runtime._hot_path import MetricsLogger
from runtime._monitors import Monitor
from runtime._monitors_gpu import AllocatorSource, CudaDevices, NvmlSource, load_nvml
from runtime._monitors_host import HostSource
from runtime._monitors_probes import Probes, Source
from runtime._watch import Watch


class Monitored(MetricsLogger):
    """A run that can have a monitor, and watch models."""

    def __init__(
        self, bus: Bus, *, snapshots: Mapping[str, Snapshots] | None, strict: bool
    ) -> None:
        super().__init__(bus, snapshots=snapshots, strict=strict)
        self._monitor: Monitor | None = None
        self._watches: dict[torch.nn.Module, Watch] = {}

    @property
    @abstractmethod
    def dir(self) -> Path:
        """The run's folder."""

    @property
    def active_monitor(self) -> Monitor | None:
        """What `monitor` made last; a loop that belongs to the run tells it of each step."""
        return self._monitor

    @property
    def watches(self) -> tuple[Watch, ...]:
        """What `watch` made; a loop that belongs to the run has each take its samples."""
        return tuple(self._watches.values())

    def watch(
        self,
        model: torch.nn.Module,
        *,
        every: int = 100,
        gradients: bool = True,
        parameters: bool = False,
        histograms: bool = False,
    ) -> Watch:
        """Publish norms of a model's gradients or parameters every so many steps.

        Logged are `gradients/norm`, of all together, and `gradients/norm/<parameter>` of each one;
        histograms are published as `bus.HistogramLogged` under `gradients/<parameter>`, 64 bins
        about zero. `parameters` likewise. They are computed on the device and nothing waits for
        them. Watching a model again replaces its watch.

        Args:
            model: Whose parameters to watch: those it has now.
            every: Steps from one sample to the next, 1 or more.
            gradients: Whether to sample gradients.
            parameters: Whether to sample the parameters themselves.
            histograms: Whether to publish histograms beside the norms.

        Returns:
            What a loop of one's own calls at each step: `watch.sample(step)`, after the backward
            pass and before `zero_grad`.

        Raises:
            ValueError: `every` is less than 1, or there is nothing to watch.
        """
        if every < 1:
            raise ValueError(f"every={every} must be steps between two samples, 1 or more")
        if not gradients and not parameters:
            raise ValueError(
                "there is nothing to watch with gradients=False and parameters=False; "
                "leave one of them on"
            )
        watch = Watch(
            self,
            model,
            every=every,
            gradients=gradients,
            parameters=parameters,
            histograms=histograms,
        )
        self._watches[model] = watch
        return watch

    def publish_late(self, made: float, series: str, event: DeviceEvent) -> None:
        """Publish an event whose values are still on a device.

        Args:
            made: When it was made, in Unix seconds.
            series: Whose order it keeps among others of the same series; no metric's name.
            event: The event, on its way.
        """
        if not self.refuses_more():
            self._bus.publish_late(made, series, event)

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
