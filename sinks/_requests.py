"""What goes over the wire: a request as one server gets it, and headers both ways."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from pydantic import JsonValue

from sinks._addresses import Address, Parameters
from sinks._bodies import Body

Progress: TypeAlias = Callable[[int, int], object]
"""Told of bytes sent and bytes in all."""


class RequestOptions(TypedDict, total=False):
    """What `HttpClient.request` takes by keyword."""

    json: JsonValue
    content: bytes | str | None
    headers: Mapping[str, str] | None
    params: Parameters | None
    gzip: bool
    timeout: float | None
    limit: int
    good: Collection[int]


class UploadOptions(TypedDict, total=False):
    """What `HttpClient.upload` takes by keyword."""

    headers: Mapping[str, str] | None
    offset: int
    length: int | None
    frame: tuple[bytes, bytes]
    progress: Progress | None
    good: Collection[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it goes to one server.

    Attributes:
        headers: Names in lower case.
        good: Statuses beyond those below 300 that are no failure.
        limit: Bytes that a good answer may have.
    """

    method: str
    address: Address
    headers: Mapping[str, str]
    body: Body | None
    good: Collection[int]
    limit: int

    def is_good(self, status: int) -> bool:
        """Whether an answer with this status is what was asked for."""
        return status < 300 or status in self.good


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as the client takes them."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case; values of a name that came twice joined by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
