"""Nothing that is handed to `run.log` ends the training that logs it."""

import collections
import datetime as dt
import decimal
import enum
import fractions
import logging
import math
import warnings

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bus import LoggingError, MetricsLogged, Request, Stop


class WordlessError(Exception):
    """An error that cannot even be printed."""

    def __str__(self):
        raise RuntimeError("no words")


class Fails:
    """Every special method of it fails."""

    def __float__(self):
        raise WordlessError

    def __repr__(self):
        raise WordlessError

    def __len__(self):
        raise WordlessError

    def __eq__(self, other):
        raise WordlessError

    def __bool__(self):
        raise WordlessError

    __hash__ = None


class FailsToHaveAClass:
    """`isinstance` of it fails."""

    @property
    def __class__(self):
        raise RuntimeError("no class")


class LiesInFloat:
    """Its `__float__` returns something else."""

    def __float__(self):
        return "1.0"


class LooksSharded(torch.Tensor):
    """As a DTensor does, it has a `full_tensor`, which would be a collective."""

    def full_tensor(self):
        raise AssertionError("a collective was started")


class OnADevice:
    """An array of a library we do not know, on a device."""

    device = "gpu:0"
    size = 1

    def __dlpack__(self):
        raise AssertionError("the device was asked")

    def item(self):
        raise AssertionError("the device was waited for")


def fake_tensor():
    with FakeTensorMode():
        return torch.ones(())


def sharded_tensor():
    return torch.ones(()).as_subclass(LooksSharded)


def quantized_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is giving them up
        return torch.quantize_per_tensor(torch.ones(1), 0.5, 0, torch.qint8)


BAD_VALUES = {
    "none": None,
    "text": "0.5",
    "empty_text": "",
    "bytes": b"1",
    "bytearray": bytearray(b"1"),
    "huge_integer": 10**400,
    "inexact_integer": 2**53 + 1,
    "negative_inexact_integer": -(2**53) - 1,
    "complex": 1 + 2j,
    "list": [1.0],
    "tuple": (1.0,),
    "set": {1.0},
    "dict": {"nested": 1.0},
    "range": range(1),
    "object": object(),
    "class": float,
    "function": math.sqrt,
    "generator": (x for x in [1.0]),
    "ellipsis": ...,
    "datetime": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "timedelta": dt.timedelta(seconds=1),
    "decimal_overflow": decimal.Decimal("1e400"),
    "decimal_signalling": decimal.Decimal("sNaN"),
    "fraction_overflow": fractions.Fraction(10**400),
    "fails": Fails(),
    "fails_class": FailsToHaveAClass(),
    "lies": LiesInFloat(),
    "enum": enum.Enum("Colour", "RED").RED,
    "tensor_of_two": torch.ones(2),
    "tensor_of_none": torch.ones(0),
    "tensor_matrix": torch.ones(2, 2),
    "tensor_meta": torch.ones((), device="meta"),
    "tensor_complex": torch.ones((), dtype=torch.complex64),
    "tensor_inexact": torch.tensor(2**53 + 1),
    "tensor_fake": fake_tensor(),
    "tensor_sharded": sharded_tensor(),
    "numpy_text": np.str_("1"),
    "numpy_texts": np.array(["a"]),
    "numpy_object": np.array([None], dtype=object),
    "numpy_objects": np.array([None, None], dtype=object),
    "numpy_of_two": np.ones(2),
    "numpy_of_none": np.ones(0),
    "numpy_complex": np.complex64(1j),
    "numpy_time": np.datetime64("2024-01-01"),
    "numpy_times": np.array([1], dtype="m8[ns]"),
    "numpy_duration": np.timedelta64(5, "ns"),
    "numpy_bytes": np.bytes_(b"1"),
    "numpy_inexact": np.int64(2**53 + 1),
    "numpy_void": np.void(b"1"),
    "device_array": OnADevice(),
    "module": torch.nn.Linear(1, 1),
}


def element_of_an_object_array():
    array = np.empty(1, dtype=object)
    array[0] = torch.ones((), device="meta")
    return array


BAD_VALUES["numpy_of_a_tensor"] = element_of_an_object_array()


def complaints(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def heard(caplog):
    """What the log says, from the test's beginning."""
    with caplog.at_level(logging.WARNING):
        yield lambda: complaints(caplog)


class TestBadValues:
    def test_none_of_them_raises_and_each_is_named_once(self, new_run, heard, logged):
        """All bad values in one call, twice: no exception, one line a key, the good key is kept."""
        run = new_run()
        for step in (1, 2):
            run.log({**BAD_VALUES, "good": 0.5}, step=step)
        rejected = run.statistics().rejected
        run.close()

        assert len(BAD_VALUES) >= 40
        assert set(rejected) == set(BAD_VALUES)
        assert run.statistics().rejected_count == 2 * len(BAD_VALUES)
        for key in BAD_VALUES:
            assert sum(line.startswith(f"{key} is not logged: ") for line in heard()) == 1, key
        assert logged(run.dir) == [(1, {"good": 0.5}), (2, {"good": 0.5})]

    @pytest.mark.parametrize("key", BAD_VALUES)
    def test_each_alone_leaves_the_good_one(self, new_run, logged, heard, key):
        """One bad value beside a good float, host integer and tensor costs only itself."""
        run = new_run()
        run.log({"a": 0.5, key: BAD_VALUES[key], "b": 2, "c": torch.tensor(0.25)}, step=3)
        run.close()

        assert logged(run.dir) == [(3, {"a": 0.5, "b": 2.0, "c": 0.25})]
        assert list(run.statistics().rejected) == [key]
        assert len(heard()) == 1

    @pytest.mark.parametrize("key", BAD_VALUES)
    def test_strict_raises_and_names_the_key(self, new_run, logged, key):
        """A strict run raises LoggingError with the key; the good key is still logged."""
        run = new_run(strict=True)
        with pytest.raises(LoggingError, match=key) as raised:
            run.log({"good": 0.5, key: BAD_VALUES[key]}, step=1)
        run.close()

        assert set(raised.value.reasons) == {key}
        assert logged(run.dir) == [(1, {"good": 0.5})]

    def test_a_device_that_is_handed_over_meets_no_bad_tensor(self, new_run, late_device, logged):
        """What cannot be logged is sorted out before the device is asked for the others."""
        run = new_run(snapshots={"cpu": late_device})
        bad = {
            **BAD_VALUES,
            "tensor_quantized": quantized_tensor(),
            "tensor_sparse": torch.ones(1).to_sparse(),
        }
        run.log({**bad, "good": torch.tensor(0.5)}, step=1)
        late_device.release()
        run.close()

        assert set(run.statistics().rejected) == set(bad) - {"tensor_inexact"}
        assert [set(metrics) for _, metrics in logged(run.dir)] == [{"good", "tensor_inexact"}]

    def test_a_device_that_refuses_costs_only_its_tensors(self, new_run, logged):
        """An exception while copying names each tensor's key and leaves host numbers alone."""

        class Refusing:
            def take(self, _tensors):
                raise WordlessError

        run = new_run(snapshots={"cpu": Refusing()})
        run.log({"x": torch.ones(()), "y": torch.ones(()), "lr": 0.1}, step=1)
        run.close()

        assert logged(run.dir) == [(1, {"lr": 0.1})]
        assert set(run.statistics().rejected) == {"x", "y"}

    @pytest.mark.parametrize(
        "fine",
        [float("nan"), float("inf"), -float("inf"), True, 2**53, decimal.Decimal("0.1")],
        ids=repr,
    )
    def test_odd_but_fine(self, new_run, heard, fine):
        """Not everything unusual is bad."""
        run = new_run()
        run.log({"x": fine})
        run.close()

        assert not heard()

    def test_nothing_is_named_for_a_call_without_metrics(self, new_run, heard, logged):
        """An empty mapping is no event and no complaint."""
        run = new_run()
        run.log({})
        run.log({}, step=1)
        run.close()

        assert not heard()
        assert logged(run.dir) == []


class NoItems(collections.UserDict):
    def items(self):
        raise WordlessError

    keys = items


class NoPairs(collections.UserDict):
    def items(self):
        return [1, 2]


BAD_MAPPINGS = {
    "none": None,
    "number": 0.5,
    "text": "loss",
    "pairs": [("loss", 0.5)],
    "texts": ["ab"],
    "iterator": iter([("loss", 0.5)]),
    "fails": Fails(),
    "fails_class": FailsToHaveAClass(),
    "tensor": torch.ones(2),
    "array": np.ones(2),
    "no_items": NoItems(a=1),
    "no_pairs": NoPairs(a=1),
    "class": dict,
}


class TestBadMappings:
    @pytest.mark.parametrize("name", BAD_MAPPINGS)
    def test_named_once(self, new_run, heard, logged, name):
        """What is no readable mapping is named as "metrics", once, and nothing of it is logged."""
        run = new_run()
        run.log(BAD_MAPPINGS[name], step=1)
        run.log(BAD_MAPPINGS[name], step=2)
        run.log({"good": 0.5}, step=3)
        run.close()

        assert list(run.statistics().rejected) == ["metrics"]
        assert len(heard()) == 1
        assert logged(run.dir) == [(3, {"good": 0.5})]

    @pytest.mark.parametrize("good", [0.5, 1, torch.tensor(0.5)], ids=["float", "int", "tensor"])
    @pytest.mark.parametrize("key", [1, None, (1, 2), b"loss", 0.5, "\ud800", "a\udfffb"], ids=repr)
    def test_bad_keys(self, new_run, heard, logged, key, good):
        """A key that is no well-formed string is named once by its repr, whatever its value."""
        run = new_run()
        for _ in range(2):
            run.log({key: good, "good": good})
        assert run.flush()
        rejected = list(run.statistics().rejected)
        run.close()

        assert rejected == [repr(key)]
        assert len(heard()) == 1
        assert logged(run.dir) == [(None, {"good": float(good)})] * 2

    @pytest.mark.parametrize("key", [1, "\ud800"], ids=repr)
    def test_bad_keys_are_strict_too(self, new_run, key):
        """Also a call of floats alone, which otherwise is not looked at, raises in a strict run."""
        with pytest.raises(LoggingError) as raised:
            new_run(strict=True).log({key: 0.5})

        assert list(raised.value.reasons) == [repr(key)]

    @pytest.mark.parametrize("good", [0.5, 1, torch.tensor(0.5)], ids=["float", "int", "tensor"])
    def test_strings_of_other_classes(self, new_run, heard, logged, good):
        """Keys that are strings by inheritance (enums, numpy's) are names like any other."""
        loss = enum.StrEnum("Metric", {"LOSS": "loss"}).LOSS
        old_style = enum.Enum("Old", {"ACC": "acc"}, type=str).ACC
        run = new_run()
        run.log({loss: good, old_style: good, np.str_("norm"): good}, step=1)
        run.close()

        assert logged(run.dir) == [(1, dict.fromkeys(["loss", "acc", "norm"], float(good)))]
        assert not heard()

    def test_a_dictionary_that_another_thread_changes(self, new_run):
        """Logging a dictionary that changes meanwhile raises nothing and loses nothing silently."""
        run = new_run()
        shared = {f"k{number}": 0.5 for number in range(64)}
        stop = run.control.request(Stop())

        async def change(_event):
            for number in range(64):
                shared[f"k{number}"] = 1.5
                shared.pop("extra", None)
                shared["extra"] = 2

        run.on(MetricsLogged)(change)
        for step in range(300):
            run.log(shared, step=step)
        run.close()

        statistics = run.statistics()
        lines = statistics.published - statistics.dropped_count
        assert not stop.wait(0).applied
        assert lines == statistics.journalled


BAD_STEPS = {
    "text": "3",
    "fraction": 1.5,
    "negative": -1,
    "negative_numpy": np.int64(-1),
    "huge": 10**30,
    "just_too_large": 2**53 + 1,
    "nan": float("nan"),
    "infinite": float("inf"),
    "tensor": torch.tensor(3),
    "tensor_meta": torch.ones((), device="meta"),
    "tensors": torch.ones(2),
    "array": np.ones(3),
    "device_array": OnADevice(),
    "list": [1],
    "object": object(),
    "complex": 1j,
    "fails": Fails(),
    "fails_class": FailsToHaveAClass(),
}


class TestBadSteps:
    @pytest.mark.parametrize("good", [0.5, 1, torch.tensor(0.5)], ids=["float", "int", "tensor"])
    @pytest.mark.parametrize("step", BAD_STEPS)
    def test_logged_without_it(self, new_run, heard, logged, step, good):
        """A bad step is named once; the metrics are kept without a step."""
        run = new_run()
        for _ in range(2):
            run.log({"loss": good}, step=BAD_STEPS[step])
        run.close()

        assert logged(run.dir) == [(None, {"loss": float(good)})] * 2
        assert list(run.statistics().rejected) == ["step"]
        assert len(heard()) == 1

    @pytest.mark.parametrize("step", BAD_STEPS)
    def test_strict_raises(self, new_run, step):
        """A strict run names the step."""
        with pytest.raises(LoggingError, match="step"):
            new_run(strict=True).log({"loss": 0.5}, step=BAD_STEPS[step])

    @pytest.mark.parametrize("step", [0, 7, 2**53, np.int32(7), np.uint64(7), 7.0, True])
    def test_integers_of_any_class(self, new_run, heard, logged, step):
        """Numpy's integers and whole floats are steps, up to 2**53."""
        run = new_run()
        run.log({"loss": 0.5}, step=step)
        run.close()

        assert logged(run.dir) == [(int(step), {"loss": 0.5})]
        assert not heard()


class TestInsideTransforms:
    def test_vmap(self, new_run, heard, logged):
        """Inside vmap a value is one of many: named, with what to do, and training goes on."""
        run = new_run()

        def loss(x):
            run.log({"loss": x * 2, "lr": 0.1}, step=1)
            return x * 2

        result = torch.func.vmap(loss)(torch.tensor([1.0, 2.0]))
        run.close()

        assert result.tolist() == [2.0, 4.0]
        assert logged(run.dir) == [(1, {"lr": 0.1})]
        assert "torch.vmap" in run.statistics().rejected["loss"]
        assert len(heard()) == 1

    def test_vmap_beneath_grad(self, new_run, late_device):
        """A batch is recognized under another transform, before any device is asked."""
        run = new_run(snapshots={"cpu": late_device})

        def loss(x):
            run.log({"loss": x})
            return x * x

        torch.func.vmap(torch.func.grad(loss))(torch.tensor([1.0, 2.0]))

        assert list(run.statistics().rejected) == ["loss"]
        assert late_device.calls == []

    def test_grad(self, new_run, heard, logged):
        """Inside grad a value is known and is logged; the gradient is what it would be."""
        run = new_run()

        def loss(x):
            run.log({"loss": x * x}, step=1)
            return x * x

        gradient = torch.func.grad(loss)(torch.tensor(3.0))
        run.close()

        assert gradient.item() == 6.0
        assert logged(run.dir) == [(1, {"loss": 9.0})]
        assert not heard()

    def test_under_a_fake_mode(self, new_run, heard):
        """While shapes are traced with fake tensors, real ones have no value to read either."""
        run = new_run()
        real = torch.ones(())
        with FakeTensorMode(allow_non_fake_inputs=True):
            run.log({"real": real, "fake": torch.ones(())}, step=1)
        run.close()

        assert "fake" in run.statistics().rejected
        assert len(heard()) == len(run.statistics().rejected)


class TestOtherMethods:
    def test_nothing_a_user_hands_over_raises(self, new_run, heard):
        """Bad arguments of the methods beside `log` are named once each, and the run goes on."""
        run = new_run()
        for _ in range(2):
            run.params(None)
            run.params(NoItems(a=1))
            run.artifact(object())
            run.alert(Fails())
            run.message("hello", level="shouting")
            run.define_metric("loss", goal="up")
            run.publish(None)
            run.publish(Request)
        rejected = run.statistics().rejected
        run.close()

        assert set(rejected) == {
            "params",
            "artifact",
            "alert",
            "message",
            "define_metric",
            "publish",
        }
        assert len(heard()) == len(rejected)

    def test_strict_raises_what_was_wrong(self, new_run):
        """A strict run passes the error on."""
        run = new_run(strict=True)
        with pytest.raises(ValueError, match="level"):
            run.message("hello", level="shouting")
        with pytest.raises(TypeError, match="no event"):
            run.publish(None)
        with pytest.raises(WordlessError):
            run.params(NoItems(a=1))

    def test_after_the_end(self, new_run, heard):
        """What is logged after closing is counted and said once, and raises nothing."""
        run = new_run()
        run.close()
        for step in range(3):
            run.log({"loss": 0.5}, step=step)
            run.log({"loss": torch.ones(())}, step=step)
        run.message("too late")

        assert run.statistics().dropped == {"published after the end of the run": 7}
        assert len(heard()) == 1
        assert "what is logged now is lost" in heard()[0]
