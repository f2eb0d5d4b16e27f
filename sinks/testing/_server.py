"""A strict HTTP server in a thread on 127.0.0.1 that answers as it is told, well or badly.

Real sockets, one thread for each connection. `handler` plays the service; what `next` was given
comes first, one action for each request. Everything that arrived is in `requests`, and what the
service was shown in `applied`, whether or not the client ever saw the answer.
"""

import gzip
import socket
import ssl
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

import orjson
from pydantic import JsonValue

_WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Received:
    """A request that arrived complete.

    Attributes:
        method: Its method.
        target: Path and query as they were sent.
        headers: Names in lower case.
        body: Its body, decompressed.
        time: When, on a monotonic clock.
        client: The port it came from, the same for requests of one connection.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    time: float
    client: int

    def json(self) -> JsonValue:
        """The body as data.

        Raises:
            ValueError: It is no JSON.
        """
        return cast("JsonValue", orjson.loads(self.body))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answers; `body` may be data, which becomes JSON."""

    status: int = 200
    body: JsonValue | bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def encoded(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers as they are sent."""
        if isinstance(self.body, bytes):
            return self.body, {"content-type": "application/json", **self.headers}
        return orjson.dumps(self.body), {"content-type": "application/json", **self.headers}


class Exchange:
    """One request on its connection, in the hands of an action.

    Attributes:
        request: What arrived.
        ended: Set when the server closes; an action that lasts looks at it.
    """

    def __init__(self, server: "ScriptedServer", request: Received, handler: "_Handler") -> None:
        self.request: Received = request
        self.ended: threading.Event = server.ended
        self._server = server
        self._handler = handler

    @property
    def connection(self) -> socket.socket:
        """The connection itself, for what HTTP says nothing of."""
        connection: socket.socket = self._handler.connection
        return connection

    def apply(self) -> Reply:
        """Show the request to the service."""
        return self._server.apply(self.request)

    def answer(self, reply: Reply) -> None:
        """Send an answer as it should be."""
        body, headers = reply.encoded()
        handler = self._handler
        handler.send_response_only(reply.status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if reply.status not in _WITHOUT_BODY:
            handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        if reply.status not in _WITHOUT_BODY and self.request.method != "HEAD":
            handler.wfile.write(body)

    def send(self, raw: bytes) -> None:
        """Send bytes as they are; nothing else is sent, and the connection is not used again.

        Raises:
            OSError: The client has gone.
        """
        self._handler.close_connection = True
        self._handler.wfile.write(raw)

    def drop(self, *, reset: bool = False) -> None:
        """Close the connection, politely or not."""
        handler = self._handler
        handler.close_connection = True
        if reset:
            # Closing with unsent data and no time to linger sends RST.
            handler.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4)
            )


Action: TypeAlias = Callable[[Exchange], object]
"""Does something to a request: answers, misbehaves, or both."""
Service: TypeAlias = Callable[[Received], Reply]
Rule: TypeAlias = Callable[[Received], str | None]
"""Says what is wrong with a request; None if nothing is."""


def serve(exchange: Exchange) -> None:
    """Answer as the service does."""
    exchange.answer(exchange.apply())


class ScriptedServer:
    """A server that plays a service and can be told to fail.

    Args:
        service: Answers the requests; 200 and `{}` by default.
        rules: What each request must keep; a breach is answered with 400 and remembered.
        certificate: A PEM file with certificate and key, to serve TLS.

    Attributes:
        requests: Everything that arrived.
        applied: What the service was shown.
        breaches: Rules that were broken, in words.
        host: The name under which `url` names the server.
        always: Does away with every request that `next` leaves over.
    """

    def __init__(
        self,
        service: Service | None = None,
        *,
        rules: tuple[Rule, ...] = (),
        certificate: Path | None = None,
    ) -> None:
        self.requests: list[Received] = []
        self.applied: list[Received] = []
        self.breaches: list[str] = []
        self.host: str = "127.0.0.1"
        self.always: Action = serve
        self.ended: threading.Event = threading.Event()
        self._service: Service = service or (lambda _request: Reply())
        self._rules = rules
        self._certificate = certificate
        self._script: deque[Action] = deque()
        self._lock = threading.Lock()
        self._listener: _Listener | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://{self.host}:{self._port}"

    def next(self, *actions: Action) -> None:
        """What to do with the next requests, one after the other."""
        self._script.extend(actions)

    def apply(self, request: Received) -> Reply:
        """Show a request to the service; one at a time."""
        with self._lock:
            self.applied.append(request)
            return self._service(request)

    def down(self) -> None:
        """Stop listening and hang up: connections are refused from now on."""
        if self._listener is not None:
            self._listener.hang_up()
            self._listener = None

    def up(self) -> None:
        """Listen, at the same port as before."""
        self._listener = _Listener(self, self._port, self._certificate)
        self._port = self._listener.server_address[1]

    def close(self) -> None:
        """Stop for good."""
        self.ended.set()
        self.down()

    def take(self, exchange: Exchange) -> None:
        """Deal with one request, as its handler's thread."""
        request = exchange.request
        with self._lock:
            self.requests.append(request)
            action = self._script.popleft() if self._script else self.always
            wrong = [words for rule in self._rules if (words := rule(request)) is not None]
            self.breaches += wrong
        if wrong:
            exchange.answer(Reply(400, {"error": wrong[0]}))
        else:
            action(exchange)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def owner(self) -> ScriptedServer:
        return cast("_Listener", self.server).owner

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True  # the client went away, or sent no HTTP

    def take(self) -> None:
        raw = self._body()
        if self.headers.get("content-encoding") == "gzip":
            try:
                raw = gzip.decompress(raw)
            except (OSError, EOFError, zlib.error):
                self.owner.breaches.append("the body is no gzip")
        request = Received(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=raw,
            time=time.monotonic(),
            client=int(self.client_address[1]),
        )
        self.owner.take(Exchange(self.owner, request, self))
        self.wfile.flush()

    def do_GET(self) -> None:
        """As `take`; the base class looks for these names."""
        self.take()

    def do_HEAD(self) -> None:
        """As `take`."""
        self.take()

    def do_POST(self) -> None:
        """As `take`."""
        self.take()

    def do_PUT(self) -> None:
        """As `take`."""
        self.take()

    def do_PATCH(self) -> None:
        """As `take`."""
        self.take()

    def do_DELETE(self) -> None:
        """As `take`."""
        self.take()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - as it is called
        """Say nothing; the requests are remembered."""

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            size = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(size)
            if len(body) < size:
                raise ConnectionResetError("the client went away before its request was complete")
            return body
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, owner: ScriptedServer, port: int, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.owner = owner
        self._open: set[socket.socket] = set()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake belongs to the connection's own thread: a client may leave it half done.
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(
            target=self.serve_forever, args=(0.01,), name="scripted-server", daemon=True
        ).start()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as inherited
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        del request, client_address
        error = sys.exception()
        if not isinstance(error, OSError):
            self.owner.breaches.append(f"the double of the service raised {error!r}")

    def hang_up(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has gone already
