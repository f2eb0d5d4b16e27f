"""Which proxy a request goes through, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Names in NO_PROXY cover their subdomains; `*` covers everything; a port may follow.
"""

import ssl
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import httpcore


class Proxies:
    """The environment's proxies as they are when this is made.

    Args:
        found: Addresses by scheme, with exceptions under "no"; None for the environment's.
    """

    def __init__(self, found: Mapping[str, str] | None = None) -> None:
        self._found = dict(getproxies() if found is None else found)

    @property
    def addresses(self) -> list[str]:
        """Every proxy's address, credentials included."""
        return [value for name, value in self._found.items() if name != "no"]

    def of(self, scheme: str, host: str, port: int) -> str | None:
        """The proxy's address for a server; None to connect directly."""
        address = self._found.get(scheme) or self._found.get("all")
        if not address or _is_excepted(host, port, self._found.get("no", "")):
            return None
        return address if "://" in address else f"http://{address}"

    def parsed(self, address: str, context: ssl.SSLContext | None) -> httpcore.Proxy:
        """A proxy's address, its credentials taken out of it.

        Args:
            address: As the environment has it.
            context: How to reach it if it is itself reached by https.

        Raises:
            ValueError: It is no address.
        """
        parts = urlsplit(address)
        if parts.hostname is None:
            raise ValueError("a proxy's address needs a host")
        url = httpcore.URL(scheme=parts.scheme, host=parts.hostname, port=parts.port, target="/")
        auth = (
            (unquote(parts.username).encode(), unquote(parts.password or "").encode())
            if parts.username is not None
            else None
        )
        secure = context if parts.scheme == "https" else None
        return httpcore.Proxy(url=url, auth=auth, ssl_context=secure)


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    for each in exceptions.lower().split(","):
        name = each.strip()
        if name == "*":
            return True
        name = name.lstrip("*").removeprefix(".").removesuffix(f":{port}").strip("[]")
        if name and (host.lower() == name or host.lower().endswith(f".{name}")):
            return True
    return False
