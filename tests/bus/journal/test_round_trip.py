"""Whatever is published comes back from the journal as it was."""

import enum
import math
import types
import typing
from datetime import date, timedelta
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

import bus
from bus import (
    Event,
    Gap,
    MetricsLogged,
    ParametersLogged,
    RankStacks,
    TextLogged,
    UnknownEvent,
    decode,
    encode,
)
from bus._events import JsonObject
from bus._reader import JournalReader

CATALOGUE = tuple(
    each
    for each in vars(bus).values()
    if isinstance(each, type) and issubclass(each, Event) and each not in (Event, UnknownEvent)
)

anything = st.text(st.characters(exclude_categories=()))
"""Every code point there is: control characters, newlines, lone surrogates, emoji."""
well_formed = st.text()
numbers = st.floats()
steps = st.none() | st.integers(0, 2**63)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | finite
    | well_formed,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(well_formed, inner, max_size=4),
    max_leaves=8,
)
json_objects = st.dictionaries(well_formed, json_values, max_size=4)


def values_of(  # noqa: PLR0911 - a list of cases
    annotation: object, *, positive: bool
) -> st.SearchStrategy[object]:
    """What a field of the catalogue may hold."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (JsonObject, dict[str, JsonValue]):
        return json_objects
    if origin is typing.Annotated:
        return values_of(arguments[0], positive=positive)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values_of(each, positive=positive) for each in arguments))
    if origin is dict:
        return st.dictionaries(anything, values_of(arguments[1], positive=False), max_size=5)
    if origin is list:
        return st.lists(values_of(arguments[0], positive=positive), max_size=5)
    if origin is tuple:
        return st.lists(values_of(arguments[0], positive=positive), max_size=5).map(tuple)
    if annotation is RankStacks:
        fields = RankStacks.model_fields.items()
        parts = {name: values_of(each.annotation, positive=True) for name, each in fields}
        return st.builds(RankStacks, **parts)
    simple = {
        int: st.integers(1, 2**70),
        float: st.floats(0, allow_infinity=False) if positive else numbers,
        str: anything,
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[annotation]  # type: ignore[index]  # a new kind of field fails here


@st.composite
def events_of(draw: st.DrawFn, kind: type[Event]) -> Event:
    """Any event of a class that its constructor accepts."""
    fields: dict[str, object] = {}
    for name, field in kind.model_fields.items():
        if name in ("type", "time", "step"):
            continue
        positive = name in ("counts", "epoch", "epochs") or name.endswith("seconds")
        strategy = values_of(field.annotation, positive=positive)
        if name in ("run_id", "reason", "media_type") and "BeforeValidator" not in repr(field):
            strategy = strategy if field.annotation is not str else well_formed
        if field.is_required() or draw(st.booleans()):
            fields[name] = draw(strategy)
    return kind(time=draw(finite), step=draw(steps), **fields)


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light"


class Inner(BaseModel):
    size: int
    label: str | None = None


class EverythingHappened(Event):
    """A user's event with fields of every kind."""

    type: Literal["test.everything_happened"] = "test.everything_happened"
    huge: int
    ratio: float
    raw: bytes
    shade: Shade
    inner: Inner
    when: date
    lasted: timedelta
    pairs: dict[int, list[float]]
    anything: JsonValue


class QuotedHappened(Event):
    """A type that JSON has to escape."""

    type: Literal['test "quoted" \\ happened\n'] = 'test "quoted" \\ happened\n'


user_events = st.builds(
    EverythingHappened,
    time=finite,
    step=steps,
    huge=st.integers(-(10**1000), 10**1000),
    ratio=numbers,
    raw=st.binary(),
    shade=st.sampled_from(Shade),
    inner=st.builds(Inner, size=st.integers(), label=st.none() | well_formed),
    when=st.dates(),
    lasted=st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    pairs=st.dictionaries(st.integers(), st.lists(numbers, max_size=3), max_size=3),
    anything=json_values,
)
unknown_events = st.builds(
    UnknownEvent,
    type=well_formed.map("elsewhere/".__add__),
    time=finite,
    step=steps,
    fields=json_objects,
).map(
    lambda event: event.model_copy(
        update={"fields": {k: v for k, v in event.fields.items() if k not in HEAD}}
    )
)
HEAD = ("type", "time", "step")
every_kind = st.one_of(
    *(events_of(kind) for kind in CATALOGUE),
    user_events,
    unknown_events,
    st.builds(QuotedHappened, time=finite),
)


def same(one: Event, other: Event) -> bool:
    """Equality under which NaN equals NaN and 1 differs from 1.0."""
    return type(one) is type(other) and repr(one) == repr(other)


class TestEncoding:
    """`decode(encode(event))` is the event."""

    @pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
    def test_catalogue(self, kind):
        """Every class of the catalogue, with every value its fields accept."""

        @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(events_of(kind))
        def check(event):
            encoded = encode(event)
            assert b"\n" not in encoded
            assert same(decode(encoded), event)

        check()

    @settings(max_examples=60, deadline=None)
    @given(user_events | unknown_events | st.builds(QuotedHappened, time=finite))
    def test_others(self, event):
        """Users' classes, types that nobody defined here, types that need escaping."""
        assert same(decode(encode(event)), event)

    @pytest.mark.parametrize("text", ["\ud800", "a\udfff\n\x00\u2028é😀", "\udc80" * 3])
    def test_lone_surrogates_in_texts(self, text):
        """A lone surrogate becomes U+FFFD, everything around it stays."""
        event = TextLogged(key=text, text=text)

        read = decode(encode(event))

        assert isinstance(read, TextLogged)
        expected = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
        assert (read.key, read.text) == (expected, expected)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_that_json_lacks(self, value):
        """They survive in every field that is a number, and are spelled out in free JSON."""
        metrics = decode(encode(MetricsLogged(metrics={"a": value, "b": 1.0})))
        free = decode(encode(ParametersLogged(parameters={"a": [value]})))

        assert isinstance(metrics, MetricsLogged)
        assert repr(metrics.metrics["a"]) == repr(value)
        assert isinstance(free, ParametersLogged)
        assert free.parameters == {
            "a": [{"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")]
        }

    def test_changed_class(self):
        """Fields that a class no longer accepts come back as an unknown event, intact."""
        line = b'{"type":"text_logged","time":1.5,"step":3,"key":"k","text":"t","more":[1]}'

        read = decode(line)

        assert isinstance(read, UnknownEvent)
        assert read.fields == {"key": "k", "text": "t", "more": [1]}
        assert encode(read) == line

    def test_fields_cannot_pose_as_the_head(self):
        """An unknown event's own type, time and step win over fields of those names."""
        event = UnknownEvent(type="test.real", time=1.0, fields={"type": 5, "time": "x", "a": 1})

        read = decode(encode(event))

        assert (read.type, read.time) == ("test.real", 1.0)
        assert isinstance(read, UnknownEvent)
        assert read.fields == {"a": 1}

    def test_what_nobody_could_read_back_is_refused(self):
        """An integer beyond Python's limit fails where it is written, not where it is read."""
        with pytest.raises(ValueError, match="out of range"):
            encode(ParametersLogged(parameters={"n": 10**5000}))
        digits = ParametersLogged(parameters={"text": "9" * 5000})
        assert same(decode(encode(digits)), digits)


class TestJournal:
    """What `append` and `flush` wrote, a reader reads."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(every_kind, max_size=25),
        st.integers(1, 2000),
        st.integers(1, 8),
    )
    def test_every_event_in_order(
        self, make_folder, write_journal, events, segment_bytes, flush_every
    ):
        """Events of every kind, in segments of any size, come back once and in order."""
        run_dir = write_journal(
            make_folder(), events, segment_bytes=segment_bytes, flush_every=flush_every
        )
        if not events:
            (run_dir / "journal").mkdir(exist_ok=True)
        reader = JournalReader(run_dir)

        records = list(reader.records(superseded=True))

        assert reader.damage == 0
        assert [record.seq for record in records] == list(range(1, len(events) + 1))
        assert all(same(r.event, e) for r, e in zip(records, events, strict=True))
        followed = JournalReader(run_dir).poll()
        assert all(same(f.event, e) for f, e in zip(followed, events, strict=True))
        rows = list(reader.rows())
        assert [(row.seq, row.data["type"]) for row in rows] == [
            (record.seq, record.event.type) for record in records
        ]
        assert [row.data.get("step") for row in rows] == [event.step for event in events]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, 60), st.integers(1, 1500), st.integers(1, 10))
    def test_segments(self, make_folder, write_journal, count, segment_bytes, flush_every):
        """Files are numbered from 1, closed once full, and hold whole lines only."""
        events = [MetricsLogged(metrics={"n": float(i)}, step=i) for i in range(count)]
        run_dir = write_journal(
            make_folder(), events, segment_bytes=segment_bytes, flush_every=flush_every
        )

        files = sorted((run_dir / "journal").iterdir())

        names = [f"rank0-a1-{number:06d}.jsonl" for number in range(1, len(files) + 1)]
        assert [file.name for file in files] == names
        assert all(file.stat().st_size >= segment_bytes for file in files[:-1])
        assert all(file.read_bytes().endswith(b"}\n") for file in files)
        reader = JournalReader(run_dir)
        assert [record.event.step for record in reader.records()] == list(range(count))
        assert reader.damage == 0

    def test_integers_beyond_64_bits(self, tmp_path, write_journal):
        """The fast path gives huge integers back exactly, too."""
        event = ParametersLogged(parameters={"n": 10**40, "m": [-(2**64), 2**64, 1.5]})
        write_journal(tmp_path, [event])

        (row,) = JournalReader(tmp_path).rows()

        assert row.data["parameters"] == event.parameters

    def test_types_that_need_escaping(self, tmp_path, write_journal):
        """They are read, and can be asked for by name."""
        write_journal(tmp_path, [QuotedHappened(), Gap(reason="r", count=1)])

        reader = JournalReader(tmp_path)

        (record,) = reader.records(types=(QuotedHappened,))
        assert isinstance(record.event, QuotedHappened)
        assert reader.damage == 0
