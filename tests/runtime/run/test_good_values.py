"""What `run.log` records is the value at the moment of the call."""

import fractions
import gc
import math
import struct
import threading
import weakref

import numpy as np
import pytest
import torch

import runtime

FLOATS = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
]
INTEGERS = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
]
NUMPY = [
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
]


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@pytest.fixture
def record(new_run, logged):
    """Log one value and read it back from the journal."""

    def log(value, **options):
        run = new_run(strict=True, **options)
        run.log({"x": value}, step=1)
        run.close()
        ((step, metrics),) = logged(run.dir)
        assert step == 1
        return metrics["x"]

    return log


class TestHostNumbers:
    @pytest.mark.parametrize(
        "value",
        [
            0.0,
            -0.0,
            0.1,
            5e-324,
            1.7976931348623157e308,
            math.inf,
            -math.inf,
            math.nan,
            0,
            -1,
            2**53,
            -(2**53),
            True,
            False,
            fractions.Fraction(1, 3),
        ],
        ids=repr,
    )
    def test_python(self, record, value):
        """Python's numbers come back bit for bit, NaN, infinities and minus zero included."""
        assert bits(record(value)) == bits(float(value))

    @pytest.mark.parametrize("kind", NUMPY, ids=lambda kind: kind.__name__)
    def test_numpy(self, record, kind):
        """A numpy scalar of any real dtype, a 0-dim array and an array of one element are equal."""
        for value in (kind(1), np.array(1, dtype=kind), np.ones((1, 1), dtype=kind)):
            assert record(value) == 1.0

    def test_numpy_keeps_precision(self, record):
        """A float32 is logged as the double it stands for, not as its shortest spelling."""
        assert record(np.float32(0.1)) == float(np.float32(0.1))

    def test_a_later_change_of_an_array_or_dictionary(self, new_run, logged):
        """Arrays are read and dictionaries copied in the call."""
        run = new_run()
        array, metrics = np.array([1.5]), {"y": 0.5}
        run.log({"x": array}, step=1)
        run.log(metrics, step=1)
        array[0] = 9.0
        metrics["y"] = 9.0
        run.close()

        assert logged(run.dir) == [(1, {"x": 1.5}), (1, {"y": 0.5})]

    def test_many_metrics_in_one_call(self, new_run, logged):
        """A call may carry hundreds of metrics of all kinds."""
        metrics = {f"m{number}": float(number) for number in range(500)}
        mixed = {**metrics, "tensor": torch.tensor(0.5), "integer": 3}
        run = new_run(strict=True)
        run.log(metrics, step=1)
        run.log(mixed, step=2)
        run.close()

        assert logged(run.dir) == [
            (1, metrics),
            (2, {**metrics, "tensor": 0.5, "integer": 3.0}),
        ]


class TestTensors:
    @pytest.mark.parametrize("late", [False, True], ids=["read", "deferred"])
    @pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
    def test_every_dtype(self, record, late_device, dtype, late):
        """0-dim and 1-element tensors of each real dtype give the value they hold."""
        late_device.answers_at_once = True
        options = {"snapshots": {"cpu": late_device}} if late else {}
        for shape in ((), (1,), (1, 1, 1)):
            value = torch.full(shape, 1.0).to(dtype)
            assert record(value, **options) == 1.0

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_rounding_is_the_dtypes(self, record, dtype):
        """A tenth is logged as what the dtype made of it."""
        value = torch.tensor(0.1).to(dtype)

        assert record(value) == value.to(torch.float64).item()

    @pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
    def test_not_finite(self, record, special):
        """NaN and infinities in tensors arrive as such."""
        assert bits(record(torch.tensor(special))) == bits(special)

    def test_parameters_and_gradients(self, record):
        """Whether a gradient is wanted makes no difference, nor does inference mode."""
        parameter = torch.nn.Parameter(torch.tensor(1.5))
        with torch.inference_mode():
            inferred = torch.tensor(2.5)

        assert record(parameter) == 1.5
        assert record(parameter * 2) == 3.0
        assert record(inferred) == 2.5

    def test_views_and_strides(self, record):
        """An element of a larger tensor is as good as one of its own."""
        matrix = torch.arange(6.0).reshape(2, 3).t()

        assert record(matrix[2, 1]) == 5.0
        assert record(matrix[1:2, 0:1]) == 1.0

    @pytest.mark.parametrize("late", [False, True], ids=["read", "deferred"])
    def test_changed_in_place_afterwards(self, new_run, logged, late_device, late):
        """The loop may reuse its tensors at once; each call logs the value it saw."""
        run = new_run(snapshots={"cpu": late_device} if late else None)
        loss = torch.zeros(())
        for step in range(1, 51):
            loss.fill_(step)
            run.log({"loss": loss}, step=step)
        loss.fill_(-1)
        late_device.release()
        run.close()

        assert logged(run.dir) == [(step, {"loss": float(step)}) for step in range(1, 51)]

    @pytest.mark.parametrize("late", [False, True], ids=["read", "deferred"])
    def test_the_graph_is_released(self, new_run, late_device, late):
        """Logging a loss does not keep what computed it alive, even while its value is waiting."""
        run = new_run(snapshots={"cpu": late_device} if late else None)
        weight = torch.ones(3, requires_grad=True)
        activation = torch.exp(weight)
        loss = (activation * activation).sum()
        watched = weakref.ref(activation)
        run.log({"loss": loss}, step=1)
        del activation, loss
        gc.collect()

        assert watched() is None
        late_device.release()

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_under_a_default_device(self, record, device):
        """Where new tensors go by default is none of the run's business."""
        value = torch.tensor(0.5, device="cpu")
        with torch.device(device):
            assert record(value) == 0.5

    def test_several_threads(self, new_run, logged):
        """Threads may log tensors at the same time; each series keeps its order."""
        run = new_run()

        def log(name):
            for step in range(200):
                run.log({name: torch.tensor(float(step))}, step=step)

        _in_threads(log, ["a", "b", "c"])
        run.close()

        for name in "abc":
            series = [metrics[name] for _, metrics in logged(run.dir) if name in metrics]
            assert series == [float(step) for step in range(200)]


def _in_threads(function, arguments):
    threads = [threading.Thread(target=function, args=(each,)) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_values_that_are_here_already():
    """`HostValues` is what a snapshot of one's own returns for a device that needs no waiting."""
    values = runtime.HostValues({"x": 0.5})

    assert values.ready()
    assert values.values() == {"x": 0.5}
