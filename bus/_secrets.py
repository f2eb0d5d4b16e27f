"""Finds the secrets of settings, so that whatever quotes them can be cleaned."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from pydantic import BaseModel, SecretBytes, SecretStr

_SHORT = 4
"""Secrets up to this length are words of the language, and replacing them would garble texts."""


def secrets_of(settings: BaseModel) -> tuple[str, ...]:
    """Every secret value in settings, the longest first."""
    found = {value for value in _values(settings) if len(value) > _SHORT}
    return tuple(sorted(found, key=len, reverse=True))


def without(secrets: Sequence[str], text: str) -> str:
    """A text in which no secret is left."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _values(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values(getattr(value, name))
    elif isinstance(value, dict):
        for each in cast("dict[object, object]", value).values():
            yield from _values(each)
    elif isinstance(value, (list, tuple, set)):
        for each in cast("Iterable[object]", value):
            yield from _values(each)
