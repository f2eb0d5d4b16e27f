"""Keeps connections open: a pool for each proxy, made in the loop on first use, closed once."""

import ssl
from collections.abc import Callable
from typing import Final

import anyio
import httpcore

from bus import MisconfiguredError
from sinks._addresses import USUAL_PORTS
from sinks._bodies import in_thread
from sinks._names import NamingBackend
from sinks._proxies import Proxies

_CONNECTIONS: Final = 10
_KEPT: Final = 30.0
"""Seconds that an idle connection is kept."""
_CLOSING: Final = 1.0


class Pools:
    """Pools of connections; belongs to one event loop until it is closed.

    Args:
        tls: Makes the TLS context; called in a thread, since it reads files.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._making = anyio.Lock()
        self._pools: dict[tuple[str | None, bool], httpcore.AsyncConnectionPool] = {}
        self.proxies: Proxies = Proxies()
        self._names = NamingBackend()

    async def pool(self, scheme: str, host: str, port: int | None) -> httpcore.AsyncConnectionPool:
        """Where to ask for a connection to a server, whose port may be the usual one.

        Raises:
            MisconfiguredError: A certificate or the proxy cannot be used.
        """
        proxy = self.proxies.of(scheme, host, port or USUAL_PORTS.get(scheme, 0))
        # Plain connections go without a context, which takes some 30 ms to make.
        secure = scheme == "https" or (proxy or "").startswith("https:")
        context = await self._made_context() if secure else None
        found = self._pools.get((proxy, secure))
        if found is None:
            found = self._pools[proxy, secure] = self._new_pool(proxy, context)
        return found

    async def aclose(self) -> None:
        """Close every connection; a later request makes new ones."""
        pools, self._pools = self._pools, {}
        self._context, self._names, self._making = None, NamingBackend(), anyio.Lock()
        with anyio.move_on_after(_CLOSING, shield=True):
            for pool in pools.values():
                await pool.aclose()

    async def _made_context(self) -> ssl.SSLContext:
        async with self._making:  # once, also for requests that begin together
            if self._context is None:
                self._context = await self._new_context()
            return self._context

    async def _new_context(self) -> ssl.SSLContext:
        try:
            return await in_thread(self._tls)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise MisconfiguredError(
                f"the certificates cannot be used: {why}", fix="check verify and client_cert"
            ) from error

    def _new_pool(
        self, address: str | None, context: ssl.SSLContext | None
    ) -> httpcore.AsyncConnectionPool:
        try:
            return httpcore.AsyncConnectionPool(
                ssl_context=context,
                proxy=None if address is None else self.proxies.parsed(address, context),
                max_connections=_CONNECTIONS,
                keepalive_expiry=_KEPT,
                network_backend=self._names,
            )
        except (RuntimeError, ValueError):
            # Without the original words, which may quote the proxy's password.
            raise MisconfiguredError(
                "the proxy that the environment names cannot be used", fix="check HTTPS_PROXY"
            ) from None
