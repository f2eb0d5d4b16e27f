"""Exchanges one request for one answer, on an `httpx.AsyncClient` over connections of our own.

The client sees of an address the server alone, since it logs every address, and web hooks
and signed ones are secrets; path and query travel beside it as the extension `target`. Of an
answer it sees no headers: it would keep cookies, and look where a redirect leads, which is decided
in `sinks._redirects`.
"""

from collections.abc import AsyncIterator, Generator
from contextlib import aclosing, contextmanager
from typing import Final

import anyio
import httpcore
import httpx

from bus import UnavailableError
from sinks._answers import Answer, read_body
from sinks._bodies import Body
from sinks._http_logs import discreet
from sinks._http_settings import HttpSettings, tls_context
from sinks._pools import Pools
from sinks._requests import Request, encoded, joined

_WORDS: Final = 4096
"""Bytes of an error's body that are looked at."""
_UNSEEN: Final = "/***"
_HEADERS: Final = "hotloop.headers"
"""The extension under which an answer's headers come."""

_KINDS: Final[dict[type[BaseException], type[httpx.TransportError]]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    # What the connections let through as it is.
    anyio.BrokenResourceError: httpx.NetworkError,
    anyio.ClosedResourceError: httpx.NetworkError,
    anyio.EndOfStream: httpx.NetworkError,
    OSError: httpx.NetworkError,
}


class Connections:
    """Makes exchanges; belongs to one event loop from the first one until it is closed.

    Args:
        options: Timeouts, and what to trust.
    """

    def __init__(self, options: HttpSettings) -> None:
        self._options = options
        self._pools = Pools(lambda: tls_context(options))
        self._client: httpx.AsyncClient | None = None

    @property
    def secrets(self) -> list[str]:
        """Addresses of the proxies, credentials included."""
        return self._pools.proxies.addresses

    async def exchange(self, request: Request) -> Answer:
        """Send one request and read one answer, cut short where its status is no good one.

        Raises:
            UnavailableError: No answer came, or none that is complete and within the limit; its
                words may hold secrets.
            MisconfiguredError: A certificate or the proxy cannot be used.
        """
        if self._client is None:
            self._client = self._new_client()
        try:
            with discreet():
                response = await self._client.send(_prepared(request), stream=True)
                async with aclosing(response):
                    return await _read(request, response)
        except httpx.TimeoutException as error:
            raise UnavailableError(self._timed_out(error)) from error
        except httpx.TransportError as error:
            raise UnavailableError(str(error) or type(error).__name__) from error

    async def aclose(self) -> None:
        """Close every connection; a later exchange makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        options = self._options
        return httpx.AsyncClient(
            transport=_Transport(self._pools),
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(
                connect=options.connect_timeout,
                read=options.read_timeout,
                write=options.write_timeout,
                pool=options.timeout,
            ),
        )

    def _timed_out(self, error: httpx.TimeoutException) -> str:
        """Which wait it was, in words."""
        options = self._options
        if isinstance(error, httpx.ConnectTimeout):
            why = str(error) or "no connection"
            return f"{why} in {options.connect_timeout:g} s"
        if isinstance(error, httpx.WriteTimeout):
            return f"nothing was taken for {options.write_timeout:g} s"
        if isinstance(error, httpx.ReadTimeout):
            return f"nothing was answered for {options.read_timeout:g} s"
        return "no connection was free"


class _Transport(httpx.AsyncBaseTransport):
    """Hands the client's requests to the pools, with the target that the client does not see."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        pool = await self._pools.pool(url.scheme, url.raw_host.decode("ascii"), url.port)
        # Not left to httpcore, which would also use it for what it asks of a proxy.
        target: bytes = request.extensions["target"]
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target),
            headers=request.headers.raw,
            content=request.stream,
            extensions={"timeout": request.extensions["timeout"]},
        )
        with _translated():
            answer = await pool.handle_async_request(sent)
        return httpx.Response(
            answer.status,
            stream=_Received(answer),
            # Nothing else: the server's reason phrase would be logged.
            extensions={_HEADERS: answer.headers},
        )

    async def aclose(self) -> None:
        await self._pools.aclose()


class _Sent(httpx.AsyncByteStream):
    """A request's body: no generator, which would be left open where a server hangs up."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._body)


class _Received(httpx.AsyncByteStream):
    """An answer's body as it came."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with _translated():
            await self._answer.aclose()


def _prepared(request: Request) -> httpx.Request:
    address = request.address
    return httpx.Request(
        request.method,
        f"{address.scheme}://{address.authority}{_UNSEEN}",
        headers=encoded(request.headers),
        stream=httpx.ByteStream(b"") if request.body is None else _Sent(request.body),
        extensions={"target": address.target.encode("ascii")},
    )


async def _read(request: Request, response: httpx.Response) -> Answer:
    headers = joined(response.extensions[_HEADERS])
    good = request.is_good(response.status_code)
    try:
        limit = request.limit if good else _WORDS
        body = await read_body(response.aiter_raw(), headers, limit, whole=good)
    except (UnavailableError, httpx.TransportError):
        if good:
            raise
        body = b""  # the status says more than why the words are missing
    return Answer(response.status_code, headers, body)


@contextmanager
def _translated() -> Generator[None]:
    """Turns what connections raise into the client's errors."""
    try:
        yield
    except tuple(_KINDS) as error:
        kind = next(_KINDS[each] for each in type(error).__mro__ if each in _KINDS)
        silent = "" if isinstance(error, httpcore.TimeoutException) else type(error).__name__
        raise kind(str(error) or silent) from error
