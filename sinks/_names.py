"""Resolves host names in daemon threads that can be given up on, and connects to the addresses.

The event loop's own look-up runs in threads that the interpreter waits for at its exit, and
a look-up may hang for as long as a name server likes. Here a look-up that hangs costs whoever
waits its timeout, and nobody else anything; later requests join it instead of adding threads.
"""

import ipaddress
import socket
import threading
from collections.abc import Iterable
from typing import Final, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpcore

_STALE: Final = 120.0
"""Seconds after which a look-up that has not returned is given up and another one begun."""
_ABANDONED: Final = 8
"""Look-ups given up on, beyond which no more are begun for a name."""


class _Lookup:
    """One call of the system's resolver."""

    def __init__(self, host: str, port: int) -> None:
        self.began = anyio.current_time()
        self._done = anyio.Event()
        self._token = anyio.lowlevel.current_token()
        self._found: list[str] = []
        self._error: Exception | None = None
        threading.Thread(
            target=self._run, args=(host, port), name=f"hotloop-name-{host}", daemon=True
        ).start()

    @property
    def over(self) -> bool:
        return self._done.is_set()

    async def addresses(self) -> list[str]:
        await self._done.wait()
        if self._error is not None:
            raise httpcore.ConnectError(f"the name cannot be looked up: {self._error}")
        return self._found

    def _run(self, host: str, port: int) -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._error = error
        else:
            self._found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        try:
            anyio.from_thread.run_sync(self._done.set, token=self._token)
        except (RuntimeError, anyio.RunFinishedError):
            return  # the loop is gone, and with it whoever waited


class Resolver:
    """Looks names up, one call at a time for each; belongs to one event loop."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._abandoned: dict[tuple[str, int], int] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Addresses of a host in the order the system prefers; cancelling abandons the look-up.

        Raises:
            httpcore.ConnectError: There is no such name, or nobody to ask.
        """
        if _is_address(host):
            return [host]
        key = (host, port)
        lookup = self._lookups.get(key)
        if lookup is None or self._is_hopeless(key, lookup):
            lookup = self._lookups[key] = _Lookup(host, port)
        found = await lookup.addresses()
        if self._lookups.get(key) is lookup:
            del self._lookups[key]
        return found

    def _is_hopeless(self, key: tuple[str, int], lookup: _Lookup) -> bool:
        if lookup.over:
            return True
        abandoned = self._abandoned.get(key, 0)
        if anyio.current_time() - lookup.began < _STALE or abandoned >= _ABANDONED:
            return False
        self._abandoned[key] = abandoned + 1
        return True


class NamingBackend(httpcore.AsyncNetworkBackend):
    """Connects to a name's addresses in turn; one that does not answer leaves time for the next."""

    def __init__(self) -> None:
        self._resolver = Resolver()
        # By its interface: the class is one of two, and one of them only raises.
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve and connect.

        Raises:
            httpcore.ConnectTimeout: Nobody answered in time, be it a name server or the host.
            httpcore.ConnectError: There is no such name, or no address of it takes connections.
        """
        deadline = anyio.current_time() + (float("inf") if timeout is None else timeout)
        addresses: list[str] = []
        with anyio.CancelScope(deadline=deadline):
            addresses = await self._resolver.addresses(host, port)
        if not addresses:
            raise httpcore.ConnectTimeout(f"{host} could not be looked up")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for tried, address in enumerate(addresses):
            left = (deadline - anyio.current_time()) / (len(addresses) - tried)
            try:
                return await self._backend.connect_tcp(
                    address, port, _finite(left), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a socket in the file system."""
        return await self._backend.connect_unix_socket(path, timeout, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else max(0.0, seconds)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
