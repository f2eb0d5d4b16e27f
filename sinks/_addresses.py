"""Where a request goes: an address taken apart, as it is sent and compared.

Parsing is httpx's, which follows the browsers: hosts come out in lower case and in ASCII, paths
and queries quoted, a scheme's usual port left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx

from bus import MisconfiguredError
from sinks._authorization import basic

Parameters: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str | int | float] | None]

USUAL_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """An address without credentials and fragment.

    Attributes:
        scheme: In lower case.
        host: A name or an IP address, that without brackets.
        port: None for the scheme's usual one.
        target: Path and query; begins with a slash.
    """

    scheme: str
    host: str
    port: int | None
    target: str

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port, by which addresses count as the same server."""
        return self.scheme, self.host, self.port or USUAL_PORTS.get(self.scheme, 0)

    def join(self, location: str) -> "Address":
        """Where a redirect from here leads.

        Raises:
            ValueError: To no valid address.
        """
        try:
            url = httpx.URL(str(self)).join(location)
        except httpx.InvalidURL as error:
            raise ValueError(str(error)) from error
        if url.scheme in USUAL_PORTS and not url.host:
            raise ValueError("no host")  # resolvers take that for this machine
        return _taken_apart(url)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parsed(address: str, params: Parameters | None = None) -> tuple[Address, dict[str, str]]:
    """An address without its credentials, and those as a header of basic authentication.

    Args:
        address: Of a server that speaks HTTP.
        params: Added to the address's query.

    Raises:
        MisconfiguredError: It is no http or https address.
    """
    try:
        url = httpx.URL(address)
        url = url if params is None else url.copy_merge_params(dict(params))
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    if url.scheme not in USUAL_PORTS or not url.host:
        # Without the address, which may be a secret.
        raise MisconfiguredError("this is no http or https address", fix="check the address")
    if not url.userinfo:
        return _taken_apart(url), {}
    return _taken_apart(url), basic(url.username, url.password)


def _taken_apart(url: httpx.URL) -> Address:
    return Address(url.scheme, url.raw_host.decode("ascii"), url.port, url.raw_path.decode("ascii"))
