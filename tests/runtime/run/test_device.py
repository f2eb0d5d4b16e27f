"""How tensors of several kinds of device are taken, without needing those devices."""

import logging
import threading

import pytest
import torch

from runtime import CpuSnapshots, HostValues
from runtime._device import AnyDeviceSnapshots, CudaValues, DeviceReader
from runtime._metrics import pack_alike, sort_metrics


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


class TestPackAlike:
    """The short way of CUDA tensors, on the CPU."""

    @pytest.mark.parametrize(
        "dtype",
        [
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
            *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        ],
        ids=str,
    )
    def test_bits(self, dtype):
        """The row has the values' dtype and bits, and none of what is done to them later."""
        values = [torch.tensor(each).to(dtype) for each in (0.1, -0.0, 1.0, 60.0, torch.nan)]
        row = pack_alike({f"m{number}": value for number, value in enumerate(values)})
        bits = [each.reshape(1).view(torch.uint8).tolist() for each in values]
        for value in values:
            value.zero_()

        assert row is not None
        assert row.dtype is dtype
        assert [each.reshape(1).view(torch.uint8).tolist() for each in row] == bits

    def test_gradients_are_left_behind(self):
        """A loss is taken without its graph."""
        weight = torch.ones((), requires_grad=True)
        row = pack_alike({"a": weight * 2, "b": weight})

        assert row is not None
        assert (row.tolist(), row.requires_grad) == ([2.0, 1.0], False)

    @pytest.mark.parametrize(
        "metrics",
        [
            {},
            {"a": 1.0},
            {"a": torch.ones(()), "b": 1.0},
            {"a": torch.ones(()), 1: torch.ones(())},
            {"a": torch.ones(()), "\ud800": torch.ones(())},
            {"a": torch.ones(()), "b": torch.ones((), dtype=torch.int64)},
            {"a": torch.ones(()), "b": torch.ones(1)},
            {"a": torch.ones(1), "b": torch.ones(1)},
            {"a": torch.ones(()), "b": torch.ones((), device="meta")},
            {"a": torch.ones((), device="meta")},
            {"a": torch.ones((), dtype=torch.complex64)},
            {"a": torch.ones(()).to_sparse()},
            {"a": torch.nn.Parameter(torch.ones(()))},
            {"a": torch.ones(()).as_subclass(Weight)},
        ],
        ids=str,
    )
    def test_what_must_be_sorted(self, metrics):
        """Anything but plain scalars of one kind with plain names."""
        assert pack_alike(metrics) is None

    def test_inside_a_transform(self):
        """What `torch.vmap` and `torch.func.grad` hand to the function is no plain tensor."""
        rows = []

        def function(x):
            rows.append(pack_alike({"x": x.sum()}))
            return x.sum()

        torch.vmap(function)(torch.ones(3, 2))
        torch.func.grad(function)(torch.ones(2))
        assert rows == [None, None]

    def test_agrees_with_sorting(self):
        """Sorting finds the same names and values, and nothing bad."""
        metrics = {f"loss/{number}": torch.tensor(1 / (number + 3)) for number in range(64)}
        row = pack_alike(metrics)
        found = sort_metrics(metrics, read_cpu=False)

        assert row is not None
        assert dict(zip(metrics, row.tolist(), strict=True)) == {
            key: tensor.item() for key, tensor in found.tensors.items()
        }
        assert not found.bad
