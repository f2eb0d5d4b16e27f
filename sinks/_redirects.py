"""Decides whether a redirect is followed, and what is sent along.

Only reading follows a redirect to another host, and leaves everything that authenticates behind.
What writes is repeated where the protocol says so (307 and 308) on its own host alone: turned into
a GET, as browsers do, it would count as delivered and be lost; sent elsewhere, the data would be.
"""

from collections.abc import Mapping
from typing import Final

from bus import MisconfiguredError
from sinks._addresses import USUAL_PORTS, Address

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REPEATED: Final = frozenset({307, 308})
_READING: Final = frozenset({"GET", "HEAD"})
_HARMLESS: Final = frozenset({"accept", "accept-encoding", "user-agent"})


def headers_after(
    method: str, status: int, old: Address, new: Address, headers: Mapping[str, str]
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
    where = f"{new.scheme}://{new.host}"
    if new.scheme not in USUAL_PORTS:
        raise MisconfiguredError(f"HTTP {status} leads to {where}", fix="check the address")
    if (old.scheme, new.scheme) == ("https", "http"):
        raise MisconfiguredError(
            f"HTTP {status} leads from https to {where}", fix="an encrypted address is needed"
        )
    if method not in _READING and not _may_repeat(status, old, new):
        raise MisconfiguredError(
            f"HTTP {status} leads to {where}", fix="set the address that it leads to"
        )
    if old.origin == new.origin or _is_upgrade(old, new):
        return dict(headers)
    return {name: value for name, value in headers.items() if name in _HARMLESS}


def _may_repeat(status: int, old: Address, new: Address) -> bool:
    return status in _REPEATED and (old.origin == new.origin or _is_upgrade(old, new))


def _is_upgrade(old: Address, new: Address) -> bool:
    """Whether it is the same host, encrypted, both at their usual ports."""
    return (
        old.host == new.host
        and old.origin[::2] == ("http", 80)
        and new.origin[::2] == ("https", 443)
    )
