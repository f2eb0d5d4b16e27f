"""How tensors of several kinds of device are taken, without needing those devices."""

import logging
import threading

import pytest
import torch

from runtime import CpuSnapshots, HostValues
from runtime._device import AnyDeviceSnapshots, CudaValues, DeviceReader


class Weight(torch.Tensor):
    """A subclass, as quantization libraries make them."""


class Told:
    """A device whose readiness and values are told."""

    def __init__(self, values):
        self.is_ready = False
        self.keys = None
        self._values = values

    def take(self, tensors):
        self.keys = sorted(tensors)
        return self

    def ready(self):
        return self.is_ready

    def values(self):
        return self._values


def test_cpu_tensors_of_other_classes(new_run, logged):
    """A subclass of Tensor on the CPU is read like any other, gradients or not."""
    run = new_run(strict=True)
    run.log({"x": torch.tensor(0.5).as_subclass(Weight)}, step=1)
    run.log({"x": torch.tensor(0.25, requires_grad=True).as_subclass(Weight)}, step=2)
    run.close()

    assert logged(run.dir) == [(1, {"x": 0.5}), (2, {"x": 0.25})]


def test_several_kinds_in_one_call():
    """Each kind of device gets its own tensors; together they are ready when all are."""
    first, second = Told({"a": 1.0, "c": 3.0}), Told({"b": 2.0})
    reader = DeviceReader({"cpu": first, "meta": second})
    values = reader.take(
        {"a": torch.ones(()), "b": torch.ones((), device="meta"), "c": torch.ones(())}
    )
    readiness = []
    for device in (first, second):
        readiness.append(values.ready())
        device.is_ready = True
    readiness.append(values.ready())

    assert (first.keys, second.keys) == (["a", "c"], ["b"])
    assert readiness == [False, False, True]
    assert values.values() == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert not reader.reads_cpu


def test_one_kind_needs_no_putting_together():
    """The usual case is passed through."""
    told = Told({"a": 1.0})

    assert DeviceReader({"cpu": told}).take({"a": torch.ones(())}) is told


def test_cpu_by_default():
    """Without a way of one's own, CPU tensors are read at once."""
    reader = DeviceReader()
    values = reader.take({"a": torch.tensor(0.5), "b": torch.tensor([2])})

    assert reader.reads_cpu
    assert values.ready()
    assert values.values() == {"a": 0.5, "b": 2.0}
    assert CpuSnapshots().take({"a": torch.tensor(0.5)}).values() == {"a": 0.5}


def test_a_device_without_an_asynchronous_way(caplog):
    """It is read with one transfer a call, and that this waits is said once."""
    with caplog.at_level(logging.WARNING):
        snapshots = AnyDeviceSnapshots("xyz")
        values = [
            snapshots.take({"a": torch.tensor(0.5), "b": torch.ones(1, dtype=torch.int64)})
            for _ in range(3)
        ]

    assert isinstance(values[0], HostValues)
    assert values[0].values() == {"a": 0.5, "b": 1.0}
    assert len(caplog.records) == 1
    assert "'xyz' waits for that device" in caplog.records[0].getMessage()


@pytest.mark.skipif(torch.version.cuda is not None, reason="for torch without a CUDA runtime")
def test_polling_without_a_cuda_runtime(caplog):
    """A writer that finds no CUDA runtime to configure says so once and polls all the same."""
    answers = []

    def poll():
        values = CudaValues([])
        answers.extend([values.ready(), values.ready(), values.values()])

    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=poll)
        thread.start()
        thread.join()

    assert answers == [True, True, {}]
    assert len(caplog.records) == 1
    assert "log nothing while another thread captures" in caplog.records[0].getMessage()
