"""Takes secrets out of whatever is said about a request: messages, addresses, a server's words."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlsplit

from bus import looks_secret

MASK: Final = "***"

_SHORT: Final = 5
_LONG_SEGMENT: Final = 12
"""From this length on, a part of a secret address's path is taken for a secret itself."""

_USERINFO: Final = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]{0,30}://)[^\s/@]{1,2000}@")
_QUERY: Final = re.compile(
    r"(?P<key>[?&;][^=&;?\s]{1,100})=(?P<value>[^&;\s\"'<>]*[^&;\s\"'<>:,.])"
)
_SIGNATURES: Final = frozenset(
    {
        "key",
        "sig",
        "signature",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "x-goog-credential",
        "x-goog-signature",
    }
)


class Mask:
    """Replaces secrets in texts, in the spellings in which addresses and JSON carry them.

    Args:
        secrets: What must not be said; those shorter than five characters are left alone, because
            replacing them would garble every text.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = dict(pair for secret in secrets for pair in _forms(secret))
        known = [form for form in forms if len(form) >= _SHORT]
        self._forms = [(form, forms[form]) for form in sorted(known, key=len, reverse=True)]

    def __call__(self, text: str) -> str:
        """The text without secrets, without userinfo and without telling values in addresses."""
        for form, instead in self._forms:
            text = text.replace(form, instead)
        text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
        return _QUERY.sub(_masked_value, text)

    def __repr__(self) -> str:
        return f"<Mask of {len(self._forms)}>"


def secret_header_values(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Values of headers that authenticate, whole and without the word for their scheme."""
    for name, value in headers:
        if looks_secret(name) or looks_secret(name.lower().removeprefix("x-")):
            yield value
            yield value.partition(" ")[2]


def _masked_value(match: re.Match[str]) -> str:
    name = match["key"][1:].lower()
    telling = name in _SIGNATURES or looks_secret(name)
    return f"{match['key']}={MASK}" if telling else match[0]


def _forms(secret: str) -> Iterator[tuple[str, str]]:
    """How a secret may be spelled, with what is said instead."""
    yield quote(secret, safe=""), MASK
    yield quote(secret), MASK
    yield json.dumps(secret)[1:-1], MASK
    yield secret, MASK
    if "://" in secret:
        with suppress(ValueError):
            yield from _address_forms(secret)


def _address_forms(address: str) -> Iterator[tuple[str, str]]:
    """What of an address is secret: everything but the host."""
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    if parts.password:
        yield parts.password, MASK
    if path or parts.query:
        host = parts.netloc.rpartition("@")[2]
        yield address, f"{parts.scheme}://{host}/{MASK}"
        yield path + (f"?{parts.query}" if parts.query else ""), f"/{MASK}"
        yield path, f"/{MASK}"
    for segment in path.split("/"):
        if len(segment) >= _LONG_SEGMENT:
            yield segment, MASK
