"""Listens to Neptune's stop button, which speaks over a web socket (RFC 6455).

The frames are read by `wsproto`; the connection is one of the sink's own kind, with its
certificates, proxies, timeouts and names.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Final, cast

import anyio
import httpcore
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Ping, TextMessage

from bus import MisconfiguredError, UnavailableError
from sinks._addresses import parsed
from sinks._http_logs import discreet
from sinks._http_settings import HttpSettings, tls_context
from sinks._pools import Pools

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ: Final = 4096
_LONGEST: Final = 1 << 16
"""Characters of a message; longer ones are no signals."""

Heard = Callable[[str], None]
"""Told the type of each signal, such as `neptune/stop`."""


async def listen(
    options: HttpSettings,
    url: str,
    headers: Mapping[str, str],
    heard: Heard,
    *,
    quiet: float = 60.0,
) -> None:
    """Listen for as long as the connection lasts.

    Args:
        options: Timeouts, and what to trust.
        url: The address, http or https.
        headers: What lets us in.
        heard: Called for each signal.
        quiet: Seconds of silence after which the other side is asked for a sign of life.

    Raises:
        UnavailableError: There is no connection (any more).
        MisconfiguredError: The address has no web socket, or lets nobody in.
    """
    pools = Pools(lambda: tls_context(options))
    try:
        with discreet():
            response = await _upgraded(pools, options, url, headers)
            try:
                await _Conversation(_stream(response), heard, quiet).run()
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise UnavailableError(f"the web socket broke off: {type(error).__name__}") from error
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise UnavailableError(f"the web socket broke off: {type(error).__name__}") from error
    finally:
        await pools.aclose()


def _stream(response: httpcore.Response) -> httpcore.AsyncNetworkStream:
    found = cast("dict[str, object]", response.extensions)  # pyright: ignore[reportUnknownMemberType] - httpcore says only that it is a dict
    return cast("httpcore.AsyncNetworkStream", found["network_stream"])


async def _upgraded(
    pools: Pools, options: HttpSettings, url: str, headers: Mapping[str, str]
) -> httpcore.Response:
    """Ask for a web socket and check that the other side has understood."""
    address, _ = parsed(url)
    key = base64.b64encode(os.urandom(16))
    asked = {
        "host": address.authority,
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": key.decode(),
        "sec-websocket-version": "13",
        **headers,
    }
    pool = await pools.pool(address.scheme, address.host, address.port)
    request = httpcore.Request(
        "GET",
        httpcore.URL(
            scheme=address.scheme, host=address.host, port=address.port, target=address.target
        ),
        headers=[(name.encode(), value.encode("ascii")) for name, value in asked.items()],
        extensions={
            "timeout": {
                "connect": options.connect_timeout,
                "read": options.read_timeout,
                "write": options.write_timeout,
                "pool": options.timeout,
            }
        },
    )
    response = await pool.handle_async_request(request)
    accepted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    answered = {name.lower(): value for name, value in response.headers}
    if response.status != 101 or answered.get(b"sec-websocket-accept") != accepted:
        await response.aclose()
        raise MisconfiguredError(
            f"HTTP {response.status} where a web socket was expected",
            fix="the stop button of this server cannot be heard",
        )
    return response


class _Conversation:
    """What goes over one web socket, until it breaks off."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, heard: Heard, quiet: float) -> None:
        self._stream = stream
        self._heard = heard
        self._quiet = quiet
        self._connection = Connection(ConnectionType.CLIENT)
        self._words = ""

    async def run(self) -> None:
        """Read for as long as there is something to read.

        Raises:
            UnavailableError: There is not, any more.
        """
        asked = False
        while True:
            data: bytes | None = None
            with anyio.move_on_after(self._quiet):
                data = await self._stream.read(_READ)
            if data is None and not asked:
                asked = True
                await self._stream.write(self._connection.send(Ping()))
            elif data:
                asked = False
                self._connection.receive_data(data)
                for event in self._connection.events():
                    await self._answer(event)
            else:
                raise UnavailableError("nobody is at the other end of the web socket any more")

    async def _answer(self, event: object) -> None:
        if isinstance(event, Ping):
            await self._stream.write(self._connection.send(event.response()))
        elif isinstance(event, CloseConnection):  # also for what is no frame
            await self._stream.write(self._connection.send(event.response()))
            raise UnavailableError("the web socket was closed")
        elif isinstance(event, TextMessage):
            self._words = (self._words + event.data)[:_LONGEST]
            if event.message_finished:
                if kind := signal_in(self._words):
                    self._heard(kind)
                self._words = ""


def signal_in(words: str) -> str:
    """The type of the signal in a message, in lower case; "" if there is none."""
    try:
        told = cast("object", json.loads(words))
    except ValueError:  # a sign of life
        return ""
    kind = cast("dict[object, object]", told).get("type") if isinstance(told, dict) else None
    return kind.lower() if isinstance(kind, str) else ""
