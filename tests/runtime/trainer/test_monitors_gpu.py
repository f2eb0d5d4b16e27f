"""GPU metrics: what driver and allocator tell, once a GPU is in use, without touching it."""

from types import SimpleNamespace

import pytest
import torch

import runtime
from bus import JournalReader, SystemMetricsLogged
from runtime._monitors_gpu import AllocatorSource, CudaDevices, NvmlSource, load_nvml
from runtime._monitors_probes import Probes

STATS = {
    "allocated_bytes.all.current": 10,
    "allocated_bytes.all.peak": 30,
    "reserved_bytes.all.current": 40,
    "num_alloc_retries": 1,
    "num_ooms": 0,
    "num_device_free": 7,
}


class Machine:
    """Two GPUs, which a test begins to use when it likes."""

    def __init__(self):
        self.used = []

    def in_use(self):
        """Those that the test uses."""
        return self.used

    def uuid(self, index):
        """As the driver's."""
        return f"GPU-{index}"

    def memory(self, index):
        """As torch's."""
        return {key: value * (index + 1) for key, value in STATS.items()}


class Driver:
    """NVML with a board that cannot tell its power."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self):
        self.begun = 0

    def nvmlInit(self):  # noqa: N802 - NVML's names, here and below
        """Count how often it was begun."""
        self.begun += 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        """Find a board."""
        return int(uuid.removeprefix("GPU-"))

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        """Tell its load."""
        return SimpleNamespace(gpu=90 + handle, memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        """Tell its memory."""
        return SimpleNamespace(used=25 * (handle + 1), total=100)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        """Tell its power in milliwatts, on the first board only."""
        if handle:
            raise OSError("Not Supported")
        return 350_500

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        """Tell its temperature."""
        return 60 + handle + sensor


@pytest.fixture
def machine():
    """Two GPUs, not used yet."""
    return Machine()


def test_the_drivers_numbers(machine):
    """Utilisation, memory, power and temperature of each GPU in use, units in the names."""
    driver = Driver()
    machine.used = [0]

    assert Probes([NvmlSource(machine, lambda: driver)]).read() == {
        "gpu0/utilization_percent": 90.0,
        "gpu0/memory_used_bytes": 25.0,
        "gpu0/memory_percent": 25.0,
        "gpu0/power_watts": 350.5,
        "gpu0/temperature_celsius": 60.0,
    }


def test_the_allocators_numbers(machine):
    """What torch holds, at its peak too, and how often it ran short."""
    machine.used = [1]

    assert Probes([AllocatorSource(machine)]).read() == {
        "gpu1/allocated_bytes": 20.0,
        "gpu1/peak_allocated_bytes": 60.0,
        "gpu1/reserved_bytes": 80.0,
        "gpu1/allocation_retries": 2.0,
        "gpu1/out_of_memory_errors": 0.0,
    }


def test_a_gpu_counts_from_its_first_use(machine):
    """Before that the driver is not even loaded; each further GPU joins when it is used."""
    driver, loads = Driver(), []
    probes = Probes([NvmlSource(machine, lambda: loads.append(1) or driver)])
    assert probes.read() == {}
    assert loads == []
    machine.used = [0]
    first = {key.partition("/")[0] for key in probes.read()}
    machine.used = [0, 1]
    both = {key.partition("/")[0] for key in probes.read()}

    assert (first, both) == ({"gpu0"}, {"gpu0", "gpu1"})
    assert (len(loads), driver.begun) == (1, 1)


def test_what_a_board_cannot_tell_is_left_out(machine, caplog):
    """It is named once; the board's other numbers stay."""
    machine.used = [0, 1]
    probes = Probes([NvmlSource(machine, Driver)])
    read = [probes.read() for _ in range(3)][-1]

    assert "gpu0/power_watts" in read
    assert "gpu1/power_watts" not in read
    assert read["gpu1/temperature_celsius"] == 61
    assert [each.getMessage() for each in caplog.records] == [
        "gpu1/power_watts is no longer read: OSError: Not Supported"
    ]


def test_without_the_package_it_is_said_once(machine, caplog):
    """Only where a GPU is in use, because nobody else would miss it."""

    def absent():
        raise ImportError("No module named 'pynvml'", name="nvidia-ml-py")

    probes = Probes([NvmlSource(machine, absent), AllocatorSource(machine)])
    probes.read()
    assert caplog.text == ""
    machine.used = [0]
    assert [len(probes.read()) for _ in range(2)] == [5, 5]

    assert [each.getMessage() for each in caplog.records] == [
        "GPU metrics are left out: nvidia-ml-py is not installed; pip install 'hotloop[monitors]'"
    ]


def test_no_context_is_made_by_looking():
    """CUDA that training has not begun to use is left alone."""
    if torch.cuda.is_initialized():
        pytest.skip("another test has begun to use CUDA")

    assert CudaDevices().in_use() == []
    assert not torch.cuda.is_initialized()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu(tmp_path):
    """A run that holds memory on a GPU tells of it; with nvidia-ml-py the driver's numbers too."""
    held = torch.zeros(2**20, device="cuda")
    with runtime.Run("gpt", dir=tmp_path) as run:
        run.monitor(host=False)
    (record,) = JournalReader(run.dir).records(types=(SystemMetricsLogged,))
    metrics = record.event.metrics

    assert metrics["gpu0/allocated_bytes"] >= held.nbytes
    try:
        load_nvml()
    except ImportError:
        return
    assert metrics["gpu0/memory_used_bytes"] >= held.nbytes
    assert 0 < metrics["gpu0/temperature_celsius"] < 120
