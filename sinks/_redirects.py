"""Decides whether a redirect is followed, and what is sent along.

Only reading follows a redirect to another host, and leaves everything that authenticates behind.
What writes is repeated where the protocol says so (307 and 308) on its own host alone: turned into
a GET, as browsers do, it would count as delivered and be lost; sent elsewhere, the data would be.
"""

from collections.abc import Mapping
from typing import Final

import httpcore

from bus import MisconfiguredError

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REPEATED: Final = frozenset({307, 308})
_READING: Final = frozenset({"GET", "HEAD"})
_HARMLESS: Final = frozenset({"accept", "accept-encoding", "user-agent"})

_PORTS: Final = {b"http": 80, b"https": 443}


def origin(url: httpcore.URL) -> tuple[bytes, bytes, int]:
    """Scheme, host and port, by which addresses count as the same server."""
    return url.scheme, url.host.lower(), url.port or _PORTS.get(url.scheme, 0)


def headers_after(
    method: str, status: int, old: httpcore.URL, new: httpcore.URL, headers: Mapping[str, str]
) -> dict[str, str]:
    """What to send to the new address, with the same method and body.

    Args:
        method: The request's method, in capitals.
        status: The redirect's status.
        old: Where the request went.
        new: Where it is to go.
        headers: What was sent, names in lower case.

    Raises:
        MisconfiguredError: It is not to be followed.
    """
    where = f"{new.scheme.decode()}://{new.host.decode(errors='replace')}"
    if new.scheme not in _PORTS:
        raise MisconfiguredError(f"HTTP {status} leads to {where}", fix="check the address")
    if (old.scheme, new.scheme) == (b"https", b"http"):
        raise MisconfiguredError(
            f"HTTP {status} leads from https to {where}", fix="an encrypted address is needed"
        )
    if method not in _READING and not _may_repeat(status, old, new):
        raise MisconfiguredError(
            f"HTTP {status} leads to {where}", fix="set the address that it leads to"
        )
    if origin(old) == origin(new) or _is_upgrade(old, new):
        return dict(headers)
    return {name: value for name, value in headers.items() if name in _HARMLESS}


def _may_repeat(status: int, old: httpcore.URL, new: httpcore.URL) -> bool:
    return status in _REPEATED and (origin(old) == origin(new) or _is_upgrade(old, new))


def _is_upgrade(old: httpcore.URL, new: httpcore.URL) -> bool:
    """Whether it is the same host, encrypted, both at their usual ports."""
    return (
        old.host.lower() == new.host.lower()
        and origin(old)[::2] == (b"http", 80)
        and origin(new)[::2] == (b"https", 443)
    )
