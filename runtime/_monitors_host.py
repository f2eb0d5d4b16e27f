"""Finds what psutil can tell about the machine and this process.

The package is optional and imported when a monitor's own thread asks, which takes it 20 ms.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from runtime._monitors_probes import Probe


class HostSource:
    """CPU, memory, disk and network of the machine, CPU and memory of this process.

    Args:
        folder: Whose disk's fill level is read.
    """

    name = "host metrics"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found = False

    def find(self) -> list[Probe]:
        """All probes at the first call, none later; their rates count from that call on.

        Raises:
            ImportError: psutil is not installed.
        """
        if self._found:
            return []
        self._found = True
        return [*_system(self._folder), _process()]


class Rates:
    """Turns counters that only grow into what they grew a second since the call before.

    Args:
        read: The counters by metric.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read
        self._before = dict(read())
        self._time = time.monotonic()

    def __call__(self) -> dict[str, float]:
        """The rates by metric; those of a counter that was set back are left out."""
        counters, now = dict(self._read()), time.monotonic()
        before, seconds = self._before, now - self._time
        self._before, self._time = counters, now
        if seconds <= 0:
            return {}
        grown = {key: value - before.get(key, value) for key, value in counters.items()}
        return {key: growth / seconds for key, growth in grown.items() if growth >= 0}


def _system(folder: Path) -> list[Probe]:
    import psutil  # noqa: PLC0415 - optional, see above

    def memory() -> dict[str, float]:
        said = psutil.virtual_memory()
        return {
            "host/memory_percent": said.percent,
            "host/memory_used_bytes": float(said.total - said.available),
        }

    def disk() -> dict[str, int]:
        said = psutil.disk_io_counters()
        if said is None:  # no disk of its own, as in some containers
            return {}
        return {
            "host/disk_read_bytes_per_second": said.read_bytes,
            "host/disk_written_bytes_per_second": said.write_bytes,
        }

    def network() -> dict[str, int]:
        said = psutil.net_io_counters()
        return {
            "host/network_received_bytes_per_second": said.bytes_recv,
            "host/network_sent_bytes_per_second": said.bytes_sent,
        }

    def space() -> dict[str, float]:
        return {"host/disk_used_percent": psutil.disk_usage(str(folder)).percent}

    psutil.cpu_percent(None)  # its first answer would be 0: this begins the interval of the next
    return [
        Probe("host CPU", lambda: {"host/cpu_percent": psutil.cpu_percent(None)}),
        Probe("host memory", memory),
        Probe("disk space", space),
        Probe("disk traffic", Rates(disk)),
        Probe("network traffic", Rates(network)),
    ]


def _process() -> Probe:
    import psutil  # noqa: PLC0415 - optional, see above

    process = psutil.Process()
    process.cpu_percent(None)  # as above

    def read() -> dict[str, float]:
        with process.oneshot():
            return {
                "process/cpu_percent": process.cpu_percent(None),
                "process/memory_bytes": float(process.memory_info().rss),
                "process/threads": float(process.num_threads()),
            }

    return Probe("process", read)
