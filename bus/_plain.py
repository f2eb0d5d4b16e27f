"""Turns whatever a user hands over into plain JSON data, with secrets masked and arrays refused."""

import dataclasses
import enum
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel, JsonValue

from bus._errors import DeviceValueError

MASK: Final = "***"
_DEPTH: Final = 24
_REPR_LIMIT: Final = 500

_CREDENTIALS: Final = (
    "secret|passwd|password|passphrase|credential|credentials|private_?key|api_?key|access_?key|"
    "auth_?key|bearer|authorization|cookie|access_?token|auth_?token|api_?token|refresh_?token|"
    "hf_?token|id_?token|session_?token|github_?token|webhook_?url|dsn|connection_?string"
)
_SECRET_KEY: Final = re.compile(
    rf"(?:^|[_\-.\s/])(?:{_CREDENTIALS})(?:$|[_\-.\s/\d])|(?:^|[_\-.\s/])(?:token|pwd|auth)$",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_PASSWORD: Final = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.\-]*://[^\s:/@]*):[^\s@/]+@")

Json: TypeAlias = JsonValue


def looks_secret(key: str) -> bool:
    """Tell whether a setting of this name usually holds a credential.

    `api_key`, `WANDB_API_KEY`, `hfToken` and `password` do; `tokenizer`, `max_tokens`,
    `token_count` and `key` do not.
    """
    return _SECRET_KEY.search(_CAMEL.sub("_", key)) is not None


def mask_urls(text: str) -> str:
    """Replace the password of every `scheme://user:password@host` in a text."""
    return _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text) if "://" in text else text


def well_formed(text: str) -> str:
    """Replace lone surrogates, which no JSON encoder accepts, by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: object, *, depth: int = _DEPTH) -> Json:  # noqa: PLR0911 - a list of cases
    """Convert a value to JSON data, whatever it is.

    Mappings, sequences, sets, dataclasses, pydantic models, enums and paths keep their structure;
    values under keys that look like secrets are masked, as are passwords in URLs; anything else
    becomes its `repr`, cut at 500 characters. Never raises for a value, however badly it behaves.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, depth=depth)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return mask_urls(well_formed(str(value)))
    if isinstance(value, PurePath):
        return well_formed(str(value))
    try:
        return _structured(value, depth - 1)
    except Exception:  # noqa: BLE001 - a user's object may fail in any way; it is described instead
        return _described(value)


def _structured(value: object, depth: int) -> Json:
    """Convert what has an inner structure.

    Raises:
        TypeError: It has none that is known here, or is nested too deeply.
    """
    if depth < 0:
        raise TypeError("nested too deeply")
    if isinstance(value, Mapping):
        return plain_mapping(cast("Mapping[object, object]", value), depth=depth)
    if isinstance(value, BaseModel):
        return plain_mapping(dict(value), depth=depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: cast("object", getattr(value, f.name)) for f in dataclasses.fields(value)}
        return plain_mapping(fields, depth=depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth=depth) for item in cast("Iterable[object]", value)]
    if hasattr(value, "__float__") and not hasattr(value, "__dlpack__"):
        return float(cast("float", value))
    raise TypeError("no structure")


def plain_mapping(values: Mapping[Any, object], *, depth: int = _DEPTH) -> dict[str, Json]:
    """Convert a mapping to a JSON object with string keys, masking what looks like a secret."""
    result: dict[str, Json] = {}
    for key, value in values.items():
        name = well_formed(str(key))
        secret = looks_secret(name) and value is not None and not isinstance(value, (bool, float))
        result[name] = MASK if secret else plain(value, depth=depth)
    return result


def _described(value: object) -> str:
    try:
        text = repr(value)
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
    for place, kind in _kinds(data, where, _DEPTH):
        if hasattr(kind, "__dlpack__"):
            raise DeviceValueError(
                f"{place or 'value'} is a {kind.__module__}.{kind.__qualname__}; events hold host "
                "numbers only. Use run.log, which copies tensors without waiting for the device"
            )


def _kinds(data: object, where: str, depth: int) -> Iterator[tuple[str, type]]:
    if isinstance(data, Mapping):
        mapping = cast("Mapping[object, object]", data)
        for key, value in mapping.items() if depth else ():
            yield from _kinds(value, f"{where}.{key}" if where else str(key), depth - 1)
    elif isinstance(data, (list, tuple)):
        items = cast("Iterable[object]", data)
        for kind in set(map(type, items)) if depth else ():
            if kind in (list, tuple, dict):
                for item in items:
                    yield from _kinds(item, where, depth - 1)
                return
            yield where, kind
    else:
        yield where, type(data)


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
