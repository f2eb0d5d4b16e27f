"""How values become bytes: the fast path, what is refused, and what is made plain and masked."""

import dataclasses
import enum
import math
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, SecretStr, model_serializer

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
    mask_urls,
    masked_command,
    plain,
    plain_mapping,
)
from bus._deferred import DeferredMetrics, SideQueue
from bus._event import encode_metrics
from bus._plain import MASK, looks_secret
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

    @pytest.mark.timeout(10)
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


class Hostile:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")


class HostileInt(int):
    def __int__(self) -> int:
        raise RuntimeError("no int")


class HostileFloat(float):
    def __float__(self) -> float:
        raise RuntimeError("no float")


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no str")


class HostileMapping(Mapping[object, object]):
    def __getitem__(self, key: object) -> object:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no iteration")

    def __len__(self) -> int:
        return 3


class EndlessMapping(Mapping[object, object]):
    def __getitem__(self, key: object) -> object:
        return key

    def __iter__(self) -> Iterator[object]:
        return iter(int, 1)

    def __len__(self) -> int:
        return 3


class UnreadableRepr:
    def __repr__(self) -> Any:
        return 5


class Settings(BaseModel):
    rate: float
    api_key: SecretStr
    password: str


@dataclasses.dataclass
class Options:
    rate: float
    where: Path
    hf_token: str
    mode: Key = Key.LOSS


HOSTILE: dict[str, Callable[[], object]] = {
    "object": Hostile,
    "int": lambda: HostileInt(3),
    "float": lambda: HostileFloat(0.5),
    "str": lambda: HostileText("text"),
    "mapping": HostileMapping,
    "endless": EndlessMapping,
    "repr": UnreadableRepr,
    "huge": lambda: 10**5000,
    "surrogate": lambda: "\ud800",
    "class": lambda: object,
    "function": lambda: len,
    "tensor": lambda: torch.zeros(2),
    "nan": lambda: math.nan,
    "iterator": lambda: iter([1]),
}


class TestPlain:
    """Whatever a user hands over becomes JSON data; nothing of it raises or takes for ever."""

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, name):
        """It is described if nothing else can be done, at any place, and can be journalled."""
        value = HOSTILE[name]()
        for made in (value, [value], {"a": value}, {"a": [{"b": value}]}, (value, 1)):
            event = ParametersLogged(parameters={"value": plain(made)})
            assert type(decode(encode(event))) is ParametersLogged

    def test_hostile_keys(self):
        """A key that cannot be written is described."""
        made = plain_mapping({Hostile(): 1, HostileText("x"): 2, "\ud800": 3, None: 4, (1, 2): 5})

        assert sorted(made.values(), key=str) == [1, 2, 3, 4, 5]
        assert all(key.isprintable() for key in made)

    @pytest.mark.timeout(10)
    def test_what_contains_itself(self):
        """It is cut where it comes round again, however many ways lead there."""
        knot: dict[str, object] = {"a": 1}
        knot["self"] = [knot, knot, {"again": knot}]

        assert plain(knot) == {"a": 1, "self": ["...", "...", {"again": "..."}]}

    @pytest.mark.timeout(10)
    def test_what_is_shared(self):
        """A few small lists, each twice in the next, are 2**40 values: they are cut."""
        value: object = 1.0
        for _ in range(40):
            value = [value, value]

        started = time.monotonic()
        plain(value)

        assert time.monotonic() - started < 5

    def test_structures(self):
        """Models, dataclasses, enums, paths, sets and numpy's numbers keep their structure."""
        settings_ = Settings(rate=0.1, api_key=SecretStr("abc"), password="xyz")  # noqa: S106 - a dummy
        options = Options(rate=0.2, where=Path("/a/b"), hf_token="abc")  # noqa: S106 - a dummy

        assert plain(settings_) == {"rate": 0.1, "api_key": MASK, "password": MASK}
        assert plain(options) == {"rate": 0.2, "where": "/a/b", "hf_token": MASK, "mode": "loss"}
        assert plain({"n": np.float32(0.5), "s": {3}, "t": (1, None)}) == {
            "n": 0.5,
            "s": [3],
            "t": [1, None],
        }
        assert plain("x" * 10_000) == "x" * 10_000
        assert len(str(plain(type("Long", (), {"__repr__": lambda _: "y" * 10_000})()))) == 500

    @settings(max_examples=60, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.integers().map("k{}".format), inner),
        )
    )
    def test_json_stays(self, value):
        """What is JSON already comes back equal."""
        assert plain(value) == value


SECRET = [
    "api_key", "apiKey", "WANDB_API_KEY", "hfToken", "password", "db.password", "HF_TOKEN",
    "aws_secret_access_key", "token", "auth", "Authorization", "smtp/passwd", "OPENAI_APIKEY",
    "session-token", "private_key", "pwd", "api-key", "--hf-token", "access key", "Webhook.URL",
]  # fmt: skip
OPEN = [
    "tokenizer", "max_tokens", "token_count", "key", "keys", "author", "learning_rate", "monkey",
    "passes", "secretary", "tokens_per_second", "authored_by",
]  # fmt: skip


class TestSecrets:
    """Credentials are masked wherever people put them."""

    @pytest.mark.parametrize("key", SECRET)
    def test_secret(self, key):
        """Names that usually hold one."""
        assert looks_secret(key)
        assert plain_mapping({key: "abc", "more": {key: ["abc"]}}) == {
            key: MASK,
            "more": {key: MASK},
        }

    @pytest.mark.parametrize("key", OPEN)
    def test_open(self, key):
        """Names that look alike and do not."""
        assert not looks_secret(key)
        assert plain_mapping({key: "abc"}) == {key: "abc"}

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("postgres://me:pw@host:5432/db", "postgres://me:***@host:5432/db"),
            ("redis://:pw@host", "redis://:***@host"),
            ("a https://u:p@h/x, b ftp://u:q@h", "a https://u:***@h/x, b ftp://u:***@h"),
            ("http://u:p@ss@host/x", "http://u:***@host/x"),
            ("http://host:80/path", "http://host:80/path"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("no url: at@all", "no url: at@all"),
        ],
    )
    def test_urls(self, text, masked):
        """Passwords in URLs, and nothing else of them."""
        assert mask_urls(text) == masked
        assert plain({"url": [text]}) == {"url": [masked]}

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize("part", ["a", "://", "a://", "://a:", "a://a:a", "x:@"])
    def test_long_texts(self, part):
        """A long text costs time in proportion to its length."""
        started = time.monotonic()
        mask_urls(part * (400_000 // len(part)) + " ://")

        assert time.monotonic() - started < 5

    def test_commands(self):
        """Values of options, beside or behind them, and assignments."""
        command = [
            "train.py", "--lr", "0.1", "--api-key", "abc", "--hf_token=def", "--verbose",
            "WANDB_API_KEY=ghi", "--db", "postgres://u:p@h/d", "--password", "--next", "x",
            "\ud800",
        ]  # fmt: skip

        assert masked_command(command) == [
            "train.py", "--lr", "0.1", "--api-key", MASK, f"--hf_token={MASK}", "--verbose",
            f"WANDB_API_KEY={MASK}", "--db", "postgres://u:***@h/d", "--password", "--next", "x",
            "\ufffd",
        ]  # fmt: skip


class Values:
    """What a device copies to the host; arrives when told to."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.arrived = False
        self._numbers = numbers

    def ready(self) -> bool:
        return self.arrived

    def values(self) -> dict[str, float]:
        return self._numbers


class TestSideQueue:
    """Metrics that wait for a device."""

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.frozensets(st.sampled_from("abc"), min_size=1),
                st.sampled_from(["device", "host"]),
                st.integers(0, 40),
            ),
            max_size=30,
        ),
        st.integers(1, 12),
    )
    def test_order_within_a_series(self, entries, limit):
        """Each entry leaves once, complete or given up, and no metric's values change places."""
        queue = SideQueue(limit)
        devices: list[Values] = []
        left: list[tuple[float, frozenset[str]]] = []
        for index, (keys, kind, arrives) in enumerate(entries):
            numbers = dict.fromkeys(keys, float(index))
            device = Values(numbers) if kind == "device" else None
            host = {} if device else numbers
            queue.add(DeferredMetrics(float(index), index, host, keys, device))
            if device:
                devices.append(device)
            if arrives < len(devices):
                devices[arrives].arrived = True
            left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]
            assert len(queue) <= limit
        for device in devices[::2]:
            device.arrived = True
        left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]
        queue.give_up()
        left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]

        given_up = [each.time for each in queue.given_up]
        assert sorted([*given_up, *(made for made, _ in left)]) == [
            float(index) for index in range(len(entries))
        ]
        assert all(keys == entries[int(made)][0] for made, keys in left)
        for key in "abc":
            series = [made for made, keys in left if key in keys]
            assert series == sorted(series)
        assert len(queue) == 0
        assert not queue.blocks(dict.fromkeys("abc", 0.0))
