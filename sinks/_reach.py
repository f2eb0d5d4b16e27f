"""Whether servers answer at all, asked without posting anything and without their secret paths."""

from collections.abc import Collection, Iterable
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from sinks._answers import Answer

_ANY: Final = frozenset(range(300, 600))


class Requests(Protocol):
    """The part of the HTTP client that this needs; the client itself is built on this module."""

    async def request(self, method: str, url: str, *, good: Collection[int] = ...) -> Answer:
        """Send a request and read its answer."""
        ...


async def reach(http: Requests, addresses: Iterable[str]) -> str:
    """Ask each server once for the head of `/`; any status is an answer.

    Args:
        http: Makes the requests.
        addresses: Of the servers; what follows the host is cut off, for it may be a secret.

    Returns:
        What answered, in words.

    Raises:
        DeliveryError: No answer came, or none over a connection that can be trusted.
    """
    answered: list[str] = []
    for root in dict.fromkeys(map(_root, addresses)):
        answer = await http.request("HEAD", f"{root}/", good=_ANY)
        answered.append(f"{root} answers (HTTP {answer.status})")
    return ", ".join(answered) or "nothing to check"


def _root(address: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
