"""Turns whatever a user hands over into plain JSON data, with secrets masked and arrays refused."""

import dataclasses
import enum
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel, JsonValue

from bus._errors import DeviceValueError

MASK: Final = "***"
_DEPTH: Final = 24
_VALUES: Final = 100_000
_INTEGER_BITS: Final = 14_000
_REPR_LIMIT: Final = 500
_NONE: Final = object()

CUT: Final = "..."

_CREDENTIALS: Final = (
    "secret|passwd|password|passphrase|credential|credentials|private_?key|api_?key|access_?key|"
    "auth_?key|bearer|authorization|cookie|access_?token|auth_?token|api_?token|refresh_?token|"
    "hf_?token|id_?token|session_?token|github_?token|webhook_?url|dsn|connection_?string"
)
_SECRET_KEY: Final = re.compile(
    rf"(?:^|[_\-.\s/])(?:{_CREDENTIALS})(?:$|[_\-.\s/\d])|(?:^|[_\-.\s/])(?:token|pwd|auth)$",
    re.IGNORECASE,
)
_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\-.\s]")
_URL_PASSWORD: Final = re.compile(
    # The bound on the scheme keeps long texts linear; the last @ ends the password.
    r"(?P<head>[a-zA-Z][a-zA-Z0-9+.\-]{0,30}://[^\s:/@]*):[^\s/]+@"
)

_HARMLESS: Final = frozenset({float, int, bool, str, bytes, type(None)})

Json: TypeAlias = JsonValue


def looks_secret(key: str) -> bool:
    """Tell whether a setting of this name usually holds a credential.

    `api_key`, `api-key`, `WANDB_API_KEY`, `hfToken` and `password` do; `tokenizer`, `max_tokens`,
    `token_count` and `key` do not.
    """
    return _SECRET_KEY.search(_BOUNDARY.sub("_", key)) is not None


def mask_urls(text: str) -> str:
    """Replace the password of every `scheme://user:password@host` in a text."""
    return _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text) if "://" in text else text


def well_formed(text: str) -> str:
    """Replace lone surrogates, which no JSON encoder accepts, by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: object) -> Json:
    """Convert a value to JSON data, whatever it is.

    Mappings, sequences, sets, dataclasses, pydantic models, enums and paths keep their structure;
    values under keys that look like secrets are masked, as are passwords in URLs; anything else
    becomes its `repr`, cut at 500 characters. What contains itself, is nested deeper than 24 levels
    or has more than 100,000 values is cut there. Never raises, however badly a value behaves.
    """
    return _Conversion().plain(value, _DEPTH)


def plain_mapping(values: Mapping[Any, object]) -> dict[str, Json]:
    """Convert a mapping to a JSON object with string keys, masking what looks like a secret.

    Everything `plain` promises holds for its values and keys.
    """
    return _Conversion().mapping(values, _DEPTH)


class _Conversion:
    """One call of `plain` or `plain_mapping`: what it may still write, and where it is."""

    def __init__(self) -> None:
        self._left = _VALUES
        self._around: set[int] = set()

    def plain(self, value: object, depth: int) -> Json:
        self._left -= 1
        try:
            if self._left < 0:
                return CUT
            scalar = _scalar(value)
            return self._structured(value, depth) if scalar is _NONE else cast("Json", scalar)
        except Exception:  # noqa: BLE001 - a user's object may fail in any way; it is described instead
            return _described(value)

    def mapping(self, values: Mapping[Any, object], depth: int) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for key, value in values.items():
            if self._left < 0:
                result[CUT] = CUT
                break
            name = _key(key)
            secret = looks_secret(name) and not _harmless(value)
            result[name] = MASK if secret else self.plain(value, depth)
        return result

    def _structured(self, value: object, depth: int) -> Json:
        """Convert what has an inner structure.

        Raises:
            TypeError: It has none that is known here.
        """
        if depth <= 0 or id(value) in self._around:
            return CUT  # its `repr` could take forever
        self._around.add(id(value))
        try:
            return self._inside(value, depth - 1)
        finally:
            self._around.discard(id(value))

    def _inside(self, value: object, depth: int) -> Json:
        if isinstance(value, enum.Enum):
            return self.plain(value.value, depth)
        if isinstance(value, Mapping):
            return self.mapping(cast("Mapping[object, object]", value), depth)
        if isinstance(value, BaseModel):
            return self.mapping(dict(value), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return self.mapping({n: cast("object", getattr(value, n)) for n in names}, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            items: list[Json] = []
            for item in cast("Iterable[object]", value):
                items.append(self.plain(item, depth))
                if self._left < 0:
                    break
            return items
        if hasattr(value, "__float__") and not hasattr(value, "__dlpack__"):
            return float(cast("float", value))
        raise TypeError("no structure")


def _scalar(value: object) -> object:
    """What JSON holds as it is; `_NONE` for everything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _NONE
    if isinstance(value, int):
        number = int(value)
        if number.bit_length() > _INTEGER_BITS:
            raise ValueError("nobody could read it back")
        return number
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (str, PurePath)):
        text = str.__str__(value) if isinstance(value, str) else str(value)
        return mask_urls(well_formed(text))
    return _NONE


def _harmless(value: object) -> bool:
    return value is None or issubclass(type(value), (bool, float))


def _key(key: object) -> str:
    try:
        return well_formed(str(key))
    except Exception:  # noqa: BLE001 - `__str__` is user code and may fail in any way
        return _described(key)


def _described(value: object) -> str:
    kind = type(value)
    if hasattr(kind, "__dlpack__"):  # its repr would wait for the device
        return f"<{kind.__module__}.{kind.__qualname__}>"
    try:
        text = str.__str__(repr(value))
    except Exception as error:  # noqa: BLE001 - a `__repr__` is user code and may fail in any way
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return mask_urls(well_formed(text[:_REPR_LIMIT]))


def is_exact_number(value: float) -> bool:
    """Tell whether a number survives as a 64-bit float: any float, integers up to 2**53."""
    return isinstance(value, float) or abs(value) <= 2**53


def show(value: float) -> str:
    """Write a metric for a person: six significant digits, NaN and infinities by name."""
    return str(value) if not math.isfinite(value) else f"{value:.6g}"


def refuse_arrays(data: object, where: str = "") -> None:
    """Raise if a tensor or array of any library is among the values.

    Pydantic would call `__float__` on it, which waits for its device. Only types are looked at.

    Raises:
        DeviceValueError: Naming the place and the mend.
    """
    _refuse_arrays(data, where, _DEPTH, set())


def _refuse_arrays(data: object, where: str, depth: int, seen: set[int]) -> None:
    kind = type(data)
    if kind in _HARMLESS or depth <= 0 or id(data) in seen:  # what contains itself is seen once
        return
    if isinstance(data, (dict, Mapping)):
        mapping = cast("Mapping[object, object]", data)
        if not _HARMLESS.issuperset(map(type, mapping.values())):
            seen.add(id(mapping))
            for key, value in mapping.items():
                _refuse_arrays(value, f"{where}.{key}" if where else str(key), depth - 1, seen)
    elif isinstance(data, (list, tuple, set, frozenset)):
        items = cast("Collection[object]", data)
        if not _HARMLESS.issuperset(map(type, items)):
            seen.add(id(items))
            for item in items:
                _refuse_arrays(item, where, depth - 1, seen)
    elif hasattr(kind, "__dlpack__"):
        raise DeviceValueError(
            f"{where or 'value'} is a {kind.__module__}.{kind.__qualname__}; events hold host "
            "numbers only. Use run.log, which copies tensors without waiting for the device"
        )


def masked_command(arguments: Sequence[str]) -> list[str]:
    """A command line with the values of options that look like secrets masked."""
    masked: list[str] = []
    secret_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        option = argument.startswith("-") or bool(equals)
        if secret_next and not argument.startswith("-"):
            masked.append(MASK)
        elif option and equals and looks_secret(name.lstrip("-")):
            masked.append(f"{name}={MASK}")
        else:
            masked.append(mask_urls(well_formed(argument)))
        secret_next = option and not equals and looks_secret(name.lstrip("-"))
    return masked
