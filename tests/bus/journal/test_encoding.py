"""How events become bytes: the fast path, and what is refused."""

import enum
import math
import struct
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, model_serializer

from bus import (
    Bus,
    BusOptions,
    DeviceValueError,
    Event,
    EventDefinitionError,
    Gap,
    MetricsLogged,
    ParametersLogged,
    decode,
    encode,
)
from bus._event import encode_metrics
from bus.testing import JournalAsserter


class Key(str, enum.Enum):  # noqa: UP042 - the older way is what people have
    LOSS = "loss"


names = st.text() | st.sampled_from(["null", ":null", '":null', "NaN", "a\nb", ""])


class TestMetrics:
    """`encode_metrics` writes what encoding the event would."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.integers(0, 2**63 - 1),
        st.dictionaries(names, st.floats() | st.integers(-(2**53), 2**53).map(float), max_size=8),
    )
    def test_same_event(self, made, step, metrics):
        """Bit for bit the same numbers, whatever they are and whatever their names are."""
        read = decode(encode_metrics(made, step, metrics))
        slow = decode(encode(MetricsLogged(time=made, step=step, metrics=metrics)))

        assert repr(read) == repr(slow)
        assert isinstance(read, MetricsLogged)
        bits = {key: struct.pack("d", value) for key, value in read.metrics.items()}
        for key, value in metrics.items():
            assert bits[key] == struct.pack("d", value) or math.isnan(value)

    @pytest.mark.parametrize("key", [Key.LOSS, np.str_("loss")], ids=["enum", "numpy"])
    def test_names_of_subclasses(self, key):
        """Enum members and numpy's strings are names like their texts."""
        for value in (1.0, math.nan):
            assert encode_metrics(1.0, 2, {key: value}) == encode_metrics(1.0, 2, {"loss": value})

    @pytest.mark.parametrize("key", [1, None, b"loss", "\ud800"])
    def test_no_names(self, key):
        """Anything that is no well-formed string is a TypeError."""
        with pytest.raises(TypeError):
            encode_metrics(1.0, 2, {key: 1.0, "good": 2.0})

    @pytest.mark.parametrize("durability", ["interval", "write"])
    def test_bad_names_cost_nobody_else(self, tmp_path, durability):
        """In one batch with names that cannot be written, everything else is journalled."""
        bus_ = Bus(tmp_path / "journal", options=BusOptions(durability=durability))
        for key in ("a", "\ud800", Key.LOSS, 7, "b"):
            bus_.publish_metrics((1.0, None, {key: 1.0}))  # type: ignore[dict-item]  # on purpose
        bus_.close(5)

        asserter = JournalAsserter(tmp_path).unbroken()

        assert [*map(dict, (e.metrics for e in asserter.of(MetricsLogged)))] == [
            {"a": 1.0},
            {"loss": 1.0},
            {"b": 1.0},
        ]
        assert sum(gap.count for gap in asserter.of(Gap)) == 2


class Pair(NamedTuple):
    first: object
    second: object


ARRAYS = [torch.zeros(()), torch.zeros(3), torch.ones((), requires_grad=True), np.zeros(2)]


class ArraysHappened(Event):
    """A user's event with containers into which pydantic would look."""

    type: Literal["test.arrays_happened"] = "test.arrays_happened"
    pairs: list[dict[str, float]] = []  # noqa: RUF012 - pydantic copies it
    numbers: set[float] = set()  # noqa: RUF012 - pydantic copies it
    rows: tuple[tuple[float, ...], ...] = ()


class TestArrays:
    """Events refuse tensors before pydantic would wait for their device."""

    @pytest.mark.parametrize("array", ARRAYS, ids=repr)
    def test_nested(self, array):
        """At any depth, in every kind of container, beside numbers."""
        for metrics in ({"a": array}, OrderedDict(a=array), {"b": 1.0, "a": array}):
            with pytest.raises(DeviceValueError, match=r"metrics\.a is a .*Use run\.log"):
                MetricsLogged(metrics=metrics)
        for value in ([array], [1, [2, array]], {"x": [{"y": (array,)}]}, Pair(1, array)):
            with pytest.raises(DeviceValueError, match=r"parameters\.deep"):
                ParametersLogged(parameters={"deep": value})  # type: ignore[dict-item]  # on purpose
        with pytest.raises(DeviceValueError):
            MetricsLogged(metrics={}, step=array)
        with pytest.raises(DeviceValueError):
            ArraysHappened(pairs=[OrderedDict(a=array)])
        with pytest.raises(DeviceValueError):
            ArraysHappened(rows=((1.0, 2.0), (array,)))

    def test_sets(self):
        """Sets too: a tensor is hashable."""
        with pytest.raises(DeviceValueError):
            ArraysHappened(numbers={1.0, torch.zeros(())})  # type: ignore[arg-type]  # on purpose

    def test_numpy_scalars_are_numbers(self):
        """They live on the host."""
        assert MetricsLogged(metrics={"a": np.float32(0.5), "b": np.int64(3)}).metrics == {
            "a": 0.5,
            "b": 3.0,
        }

    def test_what_contains_itself(self):
        """Looking ends, however often a container is shared; what JSON cannot hold is refused."""
        knot: list[Any] = []
        knot += [knot, knot, knot]
        with pytest.raises(ValueError, match="recursion"):
            ParametersLogged(parameters={"knot": knot})


class TestDefinitions:
    """Classes that the journal could not tell apart are refused where they are defined."""

    def test_type_is_no_string(self):
        """A `type` is a string with something in it."""
        with pytest.raises(EventDefinitionError, match="must be a string"):

            class NumberHappened(Event):
                type: int = 3  # type: ignore[assignment]  # on purpose

        with pytest.raises(EventDefinitionError, match="must be a string"):

            class NothingHappened(Event):
                type: str = ""

    def test_type_is_taken(self):
        """Another class's type is named with its owner."""
        with pytest.raises(EventDefinitionError, match=r"which is bus\._events\.Gap already"):

            class HoleHappened(Event):
                type: Literal["gap"] = "gap"

    def test_same_class_again(self):
        """A notebook cell that is run twice replaces its class."""

        def define() -> type[Event]:
            class CellHappened(Event):
                type: Literal["test.cell_happened"] = "test.cell_happened"

            return CellHappened

        define()
        newer = define()

        assert type(decode(encode(newer()))) is newer

    def test_abstract(self):
        """A class without a type of its own is a step towards others."""

        class Measured(Event):
            value: float

        class HeatMeasured(Measured):
            type: Literal["test.heat_measured"] = "test.heat_measured"

        event = HeatMeasured(value=1.0)
        assert decode(encode(event)) == event

    def test_serializer_that_hides_the_type(self):
        """What could not be read back is an error where it is written, which becomes a gap."""

        class HiddenHappened(Event):
            type: Literal["test.hidden_happened"] = "test.hidden_happened"

            @model_serializer
            def hide(self) -> dict[str, JsonValue]:
                return {"time": 1.0, "type": "test.hidden_happened"}

        with pytest.raises(ValueError, match="type first"):
            encode(HiddenHappened())

    def test_event_that_cannot_be_encoded(self, tmp_path):
        """It is a gap that names the type; everything around it is journalled."""

        class OpaqueHappened(Event):
            type: Literal["test.opaque_happened"] = "test.opaque_happened"
            thing: Any

        bus_ = Bus(tmp_path / "journal")
        events = [MetricsLogged(metrics={}, step=1), OpaqueHappened(thing=object())]
        for event in (*events, MetricsLogged(metrics={}, step=2)):
            bus_.publish(event)
        bus_.close(5)

        asserter = JournalAsserter(tmp_path).unbroken()

        assert [event.step for event in asserter.of(MetricsLogged)] == [1, 2]
        (gap,) = asserter.of(Gap)
        assert gap.count == 1
        assert "test.opaque_happened" in gap.reason
