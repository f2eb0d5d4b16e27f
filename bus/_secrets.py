"""Finds the secrets of settings, so that whatever quotes them can be cleaned."""

import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import cast
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import AnyUrl, BaseModel, SecretBytes, SecretStr

from bus._plain import looks_secret, mask_urls

_SHORT = 4
"""Secrets up to this length are words of the language, and replacing them would garble texts."""


def secrets_of(settings: BaseModel) -> tuple[str, ...]:
    """Every secret value in settings, credentials in addresses included, the longest first."""
    found = {value for value in _values(settings) if len(value) > _SHORT}
    return tuple(sorted(found, key=len, reverse=True))


def without(secrets: Sequence[str], text: str) -> str:
    """A text in which no secret is left."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def cleaned(secrets: Sequence[str], text: str) -> str:
    """A text in which neither a secret nor a password in an address is left."""
    return without(secrets, mask_urls(text))


def log_error(
    log: logging.Logger, secrets: Sequence[str], message: str, name: str, error: BaseException
) -> None:
    """Log an exception with its traceback, of which only the text is kept if it quotes a secret.

    Args:
        log: Where to.
        secrets: What must not be said.
        message: What happened, with one `%r` for the name.
        name: Whose exception it is.
        error: The exception.
    """
    text = "".join(traceback.format_exception(error))
    clean = cleaned(secrets, text)
    if clean == text:
        log.error(message, name, exc_info=error)
    else:
        log.error("%s\n%s", message % name, clean)


def _values(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
        yield from _credentials(value.get_secret_value())
    elif isinstance(value, (str, AnyUrl)):
        yield from _credentials(str(value))
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


def _credentials(address: str) -> Iterator[str]:
    """What of an address authenticates: its password, and telling parameters, as they may stand."""
    if "://" not in address:
        return
    with suppress(ValueError):
        parts = urlsplit(address)
        found = [parts.password or parts.username or ""]
        found += [value for name, value in parse_qsl(parts.query) if looks_secret(name)]
        for each in found:
            yield from {each, unquote(each), quote(each), quote(each, safe="")}
