"""How arguments look from outside: as plain data, and with their secrets masked."""

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import cast

import torch

from bus import looks_secret

_LONGEST = 100
"""Characters of a value that a message quotes."""


def plain(name: str, value: object) -> object:
    """A field's value as data: words for enums, names for torch's types, a mask for a secret."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return plain(name, inner)
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key: plain(str(key), each) for key, each in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(name, each) for each in cast("Iterable[object]", value)]
    return _mask(name) if _is_secret(name, value) else _plain_scalar(value)


def shown(name: str, value: object) -> str:
    """A field's value as a message quotes it."""
    hidden = looks_secret(name) and value is not None
    text = _mask(name) if hidden else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_mask(name: str, value: object) -> bool:
    """Whether a value is what `plain` puts in the place of a secret."""
    return looks_secret(name) and value == _mask(name)


def _plain_scalar(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return str(value) if isinstance(value, PurePath) else value


def _is_secret(name: str, value: object) -> bool:
    return looks_secret(name) and isinstance(value, (str, bytes)) and bool(value)


def _mask(name: str) -> str:
    return f"<{name.upper()}>"
