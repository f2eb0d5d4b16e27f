"""What an event is: a frozen model with a type, a time and perhaps a step; how it becomes bytes.

Every concrete subclass is known by its `type` the moment it is defined, so that the journal can
give it back; a type nobody defined comes back as `UnknownEvent` with its fields intact.
"""

import re
import time as clock
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, cast

import orjson
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import from_json, to_json

from bus._errors import EventDefinitionError
from bus._plain import refuse_arrays, well_formed
from bus._types import FrozenModel, TypeRegistry

SCHEMA_VERSION: Final = 1
"""The `v` of every journal line. It changes only when old readers could no longer understand it."""


_LONGEST_INTEGER: Final = 4300


def _well_formed(value: object) -> object:
    return well_formed(value) if isinstance(value, str) else value


_ENVELOPE: Final = frozenset({"crc", "v", "seq"})
_TYPE_FIRST: Final = re.compile(rb'\{"type":"([^"\\]*)"')

Text = Annotated[str, BeforeValidator(_well_formed)]
"""A string whose lone surrogates are replaced by U+FFFD instead of being refused."""

Metrics = dict[Text, float]
"""Host numbers by name. NaN and infinities are kept; integers are exact up to 2**53."""


EVENT_TYPES: Final = TypeRegistry()
"""Every concrete event class by its type."""


class Event(FrozenModel):
    """A fact about a run, in the past tense. Subclass it for facts of your own.

    A subclass names itself with `type: Literal["..."] = "..."`. Subscribers share one instance and
    treat it as read-only.

    Attributes:
        type: The name under which the journal keeps the event.
        time: When it was made, in Unix seconds.
        step: Optimizer steps taken when it happened, or None if it belongs to no step.

    Raises:
        DeviceValueError: When a value is a tensor or an array; only `run.log` takes those.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        defer_build=True,  # halves the time of `import bus`; each class is built when first used
        ser_json_inf_nan="strings",
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    durable: ClassVar[bool] = True
    """Whether it is journalled. Others reach live subscribers only, and only if somebody asked."""
    lifecycle: ClassVar[bool] = False
    """Whether it travels in the small lane from which nothing is ever dropped."""
    urgent: ClassVar[bool] = False
    """Whether the writer is woken at once instead of at its next flush."""

    type: str
    time: float = Field(default_factory=clock.time)
    step: NonNegativeInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _host_values_only(cls, data: object, info: ValidationInfo) -> object:
        if info.mode == "python":
            refuse_arrays(data)
        return data

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        taken = _ENVELOPE & cls.model_fields.keys()
        if taken:
            raise EventDefinitionError(
                f"{cls.__qualname__} cannot have a field named {', '.join(sorted(taken))}: "
                "the journal's lines begin with these"
            )
        EVENT_TYPES.register(cls)


class UnknownEvent(Event):
    """An event whose class is not defined in this process, or whose fields it no longer accepts.

    Attributes:
        type: The name it was journalled under.
        fields: Everything else it carried.
    """

    fields: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


def encode(event: Event) -> bytes:
    """Write an event as one JSON object without a newline; NaN and infinities become strings.

    Raises:
        ValueError: pydantic cannot serialize one of its values, or nobody could read it back.
    """
    if isinstance(event, UnknownEvent):
        head = {"type": event.type, "time": event.time, "step": event.step}
        encoded = to_json({**head, **event.fields, **head}, inf_nan_mode="strings")
    else:
        encoded = event.__pydantic_serializer__.to_json(event)
    if not encoded.startswith(b'{"type":"'):
        raise ValueError(f"{type(event).__qualname__} does not serialize its type first")
    if len(encoded) > _LONGEST_INTEGER:
        from_json(encoded)  # Python writes longer integers than it reads
    return encoded


def encode_metrics(time: float, step: int | None, metrics: Mapping[str, float]) -> bytes:
    """Write what `encode(MetricsLogged(...))` would, without building the event.

    Raises:
        TypeError: A key is not a well-formed string.
    """
    line: dict[str, object] = {"type": "metrics_logged", "time": time}
    if step is not None:
        line["step"] = step
    line["metrics"] = metrics
    try:
        encoded = orjson.dumps(line)
    except TypeError:
        # orjson refuses keys of subclasses of str: enum members, numpy's strings.
        metrics = {str.__str__(key): value for key, value in metrics.items()}
        line["metrics"] = metrics
        encoded = orjson.dumps(line)
    # orjson writes NaN and infinities as null, and nothing else here can be null.
    if b":null" in encoded:
        line["metrics"] = {key: _spelled(value) for key, value in metrics.items()}
        encoded = orjson.dumps(line)
    return encoded


def _spelled(value: float) -> float | str:
    if value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - NaN


def decode(encoded: bytes) -> Event:
    """Read what `encode` wrote. Types and fields this process does not know come back unchanged.

    Raises:
        ValueError: The bytes are no JSON object with a type and a time.
    """
    match = _TYPE_FIRST.match(encoded)
    known = EVENT_TYPES.get(match[1].decode() if match else _type_of(encoded))
    if known is not None:
        try:
            event = known.__pydantic_validator__.validate_json(encoded)
        except ValidationError:
            pass  # its class has changed since
        else:
            assert isinstance(event, Event)
            return event
    fields = cast("object", from_json(encoded))
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the bytes are wrong, not the type
    return _unknown(cast("dict[str, JsonValue]", fields))


def _type_of(encoded: bytes) -> str:
    """Find a type that stands elsewhere or needed escaping."""
    fields = cast("object", from_json(encoded))
    return str(cast("dict[str, object]", fields).get("type")) if isinstance(fields, dict) else ""


def _unknown(fields: dict[str, JsonValue]) -> UnknownEvent:
    rest = {key: value for key, value in fields.items() if key not in ("type", "time", "step")}
    return UnknownEvent.model_validate(
        {
            "type": fields.get("type"),
            "time": fields.get("time"),
            "step": fields.get("step"),
            "fields": rest,
        }
    )
