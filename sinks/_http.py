"""The one HTTP client of the destinations, and the base of those that use it.

A request ends within its timeouts, whatever the server, the network or the name server does, and
holds no more memory than its limit. What goes wrong comes out as the sink's `classify` says, as
`bus.UnavailableError` where no answer came, and without a secret in it. Nothing is retried here:
the delivery sends the same batch again.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Unpack

import anyio
import orjson
from pydantic import AnyUrl, JsonValue

from bus import (
    DeliveryError,
    MisconfiguredError,
    Response,
    Sink,
    SinkSettings,
    UnavailableError,
)
from bus._secrets import secrets_of
from sinks._addresses import Address, Parameters, parsed
from sinks._answers import Answer
from sinks._bodies import Body, BytesBody, FileBody, JoinedBody, zipped
from sinks._connections import Connections
from sinks._headers import checked, user_agent
from sinks._http_settings import HttpSettings as HttpSettings  # noqa: PLC0414 - its public place
from sinks._http_settings import addresses_in
from sinks._masking import Mask, secret_header_values
from sinks._reach import reach
from sinks._redirects import REDIRECTS, headers_after
from sinks._requests import Progress, Request, RequestOptions

_LIMIT: Final = 16 << 20
_REDIRECTS: Final = 5


class HttpClient:
    """Makes a sink's requests, for one at a time or several at once.

    Connections are made in the event loop on first use and kept for the next request. Headers that
    authenticate (`HttpSink.headers`) go to the sink's own servers (`HttpSink.origins`) alone.
    """

    def __init__(self, sink: "HttpSink") -> None:
        self._sink = sink
        settings = sink.settings
        # Not by the constructor, which would look for TIMEOUT and VERIFY in the environment.
        self._options = (
            settings if isinstance(settings, HttpSettings) else HttpSettings.model_construct()
        )
        self._agent = user_agent()  # here and not in the loop: it looks into folders
        self._connections = Connections(self._options)

    async def get(self, url: str | AnyUrl, **options: Unpack[RequestOptions]) -> Answer:
        """`request` with GET."""
        return await self.request("GET", url, **options)

    async def post(self, url: str | AnyUrl, **options: Unpack[RequestOptions]) -> Answer:
        """`request` with POST."""
        return await self.request("POST", url, **options)

    async def put(self, url: str | AnyUrl, **options: Unpack[RequestOptions]) -> Answer:
        """`request` with PUT."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str | AnyUrl, **options: Unpack[RequestOptions]) -> Answer:
        """`request` with PATCH."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str | AnyUrl, **options: Unpack[RequestOptions]) -> Answer:
        """`request` with DELETE."""
        return await self.request("DELETE", url, **options)

    async def request(
        self,
        method: str,
        url: str | AnyUrl,
        *,
        json: JsonValue = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Parameters | None = None,
        gzip: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - it covers more than one await
        limit: int = _LIMIT,
        good: Collection[int] = frozenset(),
    ) -> Answer:
        """Send a request and read its answer.

        Args:
            method: In capitals.
            url: The address; credentials in it are sent as basic authentication.
            json: A body as data. NaN and infinities, which JSON lacks, become null.
            content: A body as it is; without it and `json` there is none.
            headers: Beside those of the sink.
            params: Added to the address's query.
            gzip: Whether to compress the body.
            timeout: Seconds for everything together; the settings' `timeout` by default.
            limit: Bytes that the answer may have, decompressed.
            good: Statuses from 300 on that come back instead of being raised.

        Raises:
            UnavailableError: No answer came, or none that is complete and within the limit.
            MisconfiguredError: The address or a header cannot be, or a redirect must not be
                followed.
            DeliveryError: What the sink's `classify` makes of the status.
        """
        given = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not None:
            content = orjson.dumps(json)
            given.setdefault("content-type", "application/json")
        data = content.encode() if isinstance(content, str) else content
        if gzip and data is not None:
            data = await zipped(data)
            given["content-encoding"] = "gzip"
        body = None if data is None else BytesBody(data)
        request = self._made(method, str(url), given, params, body, good=good, limit=limit)
        seconds = self._options.timeout if timeout is None else timeout
        return await self._within(anyio.CancelScope(), seconds, request)

    async def upload(
        self,
        method: str,
        url: str | AnyUrl,
        path: Path,
        *,
        headers: Mapping[str, str] | None = None,
        offset: int = 0,
        length: int | None = None,
        frame: tuple[bytes, bytes] = (b"", b""),
        progress: Progress | None = None,
        good: Collection[int] = frozenset(),
    ) -> Answer:
        """Send a file, or a part of it, reading it off the loop and never as a whole.

        It may take as long as it gets on: `timeout` counts from the last bytes taken.

        Args:
            method: PUT or POST.
            url: The address.
            path: The file.
            headers: Beside those of the sink.
            offset: The first byte to send.
            length: Bytes to send; up to the file's end by default.
            frame: Bytes sent before and behind it, such as a multipart body's.
            progress: Told of bytes sent and bytes in all.
            good: Statuses from 300 on that come back instead of being raised.

        Raises:
            RejectedError: There is no such file, or not so much in it.
            UnavailableError: As `request`; also if the file changes meanwhile.
            DeliveryError: As `request`.
        """
        scope = anyio.CancelScope()
        seconds = self._options.timeout

        def moved(sent: int) -> None:
            scope.deadline = anyio.current_time() + seconds
            if progress is not None:
                progress(sent, body.size)

        file = await FileBody.of(path, offset=offset, length=length, moved=moved)
        body = JoinedBody([BytesBody(frame[0]), file, BytesBody(frame[1])]) if any(frame) else file
        given = {name.lower(): value for name, value in (headers or {}).items()}
        request = self._made(method, str(url), given, None, body, good=good, limit=_LIMIT)
        return await self._within(scope, seconds, request)

    async def upload_joined(
        self,
        method: str,
        url: str | AnyUrl,
        pieces: Sequence[bytes | Path],
        *,
        headers: Mapping[str, str] | None = None,
        good: Collection[int] = frozenset(),
    ) -> Answer:
        """Send bytes and whole files behind one another as one body, such as a form of many files.

        Everything else is as for `upload`.
        """
        scope = anyio.CancelScope()
        seconds = self._options.timeout

        def moved(_sent: int) -> None:
            scope.deadline = anyio.current_time() + seconds

        bodies: list[Body] = [
            BytesBody(each)
            if isinstance(each, bytes)
            else await FileBody.of(each, offset=0, length=None, moved=moved)
            for each in pieces
        ]
        given = {name.lower(): value for name, value in (headers or {}).items()}
        body = JoinedBody(bodies)
        request = self._made(method, str(url), given, None, body, good=good, limit=_LIMIT)
        return await self._within(scope, seconds, request)

    async def aclose(self) -> None:
        """Close the connections; a later request makes new ones."""
        await self._connections.aclose()

    def __repr__(self) -> str:
        return f"<HttpClient of {self._sink.name!r}>"

    def _made(
        self,
        method: str,
        address: str,
        headers: dict[str, str],
        params: Parameters | None,
        body: Body | None,
        *,
        good: Collection[int],
        limit: int,
    ) -> Request:
        url, basic = parsed(address, params)
        complete = {
            "host": url.authority,
            "user-agent": self._agent,
            "accept": "*/*",
            "accept-encoding": "gzip",
            **basic,
            **self._own_headers(url),
            **headers,
        }
        if body is not None or method in ("POST", "PUT", "PATCH"):
            complete["content-length"] = str(0 if body is None else body.size)
        return Request(
            method=method,
            address=url,
            headers=checked(complete),
            body=body,
            good=good,
            limit=limit,
        )

    def _own_headers(self, address: Address) -> dict[str, str]:
        own = {parsed(server)[0].origin for server in self._sink.origins()}
        if address.origin not in own:
            return {}
        return {name.lower(): value for name, value in self._sink.headers().items()}

    async def _within(self, scope: anyio.CancelScope, seconds: float, request: Request) -> Answer:
        scope.deadline = anyio.current_time() + seconds
        with scope:
            return self._judged(request, await self._follow(request))
        raise self._failed(request, f"no complete answer in {seconds:g} s")

    async def _follow(self, request: Request) -> Answer:
        sent = request
        for _ in range(_REDIRECTS + 1):
            answer = await self._exchange(sent)
            location = answer.headers.get("location")
            if sent.is_good(answer.status) or answer.status not in REDIRECTS or location is None:
                return answer
            sent = self._redirected(sent, answer.status, location)
        raise MisconfiguredError(
            f"{self._named(request)}: more than {_REDIRECTS} redirects", fix="check the address"
        )

    def _redirected(self, request: Request, status: int, location: str) -> Request:
        try:
            target = request.address.join(location)
            headers = headers_after(
                request.method, status, request.address, target, request.headers
            )
        except ValueError:
            raise self._failed(request, f"HTTP {status} leads to no valid address") from None
        except MisconfiguredError as error:
            raise self._told(request, error) from None
        return replace(request, address=target, headers={**headers, "host": target.authority})

    async def _exchange(self, request: Request) -> Answer:
        try:
            return await self._connections.exchange(request)
        # Not chained: the client's words may quote headers and addresses with secrets in them.
        except UnavailableError as error:
            raise self._told(request, error) from None

    def _judged(self, request: Request, answer: Answer) -> Answer:
        if request.is_good(answer.status):
            return answer
        # Masked before anybody shortens it: half of a secret would not be found any more.
        text = self._mask(request)(answer.body.decode("utf-8", "replace"))
        response = Response(answer.status, answer.headers, text)
        error = self._sink.classify(response, now=time.time())
        if error is None and answer.status < 400:
            error = MisconfiguredError(
                f"HTTP {answer.status} where an answer was expected", fix="check the address"
            )
        if error is not None:
            raise self._told(request, error)
        return answer

    def _named(self, request: Request) -> str:
        return self._mask(request)(f"{request.method} {request.address}")

    def _failed(self, request: Request, why: str) -> UnavailableError:
        return UnavailableError(self._mask(request)(f"{request.method} {request.address}: {why}"))

    def _told(self, request: Request, error: DeliveryError) -> DeliveryError:
        """The same error; its message says which request it was, and no secret."""
        words = f"{request.method} {request.address}: {error}"
        error.args = (self._mask(request)(words), *error.args[1:])
        return error

    def _mask(self, request: Request) -> Mask:
        return Mask(
            [
                *secrets_of(self._sink.settings),
                *secret_header_values(request.headers.items()),
                *secret_header_values(self._sink.headers().items()),
                *self._connections.secrets,
            ]
        )


class HttpSink(Sink):
    """A destination that is reached by HTTP.

    Attributes:
        http: Its client, for `open`, `write` and `close`; closed by `release`.
    """

    Settings: ClassVar[type[SinkSettings]] = HttpSettings

    http: HttpClient

    def __init__(self, settings: SinkSettings | None = None, /, **fields: Any) -> None:  # noqa: ANN401 - each sink's own settings
        super().__init__(settings, **fields)
        self.http = HttpClient(self)

    def headers(self) -> Mapping[str, str]:
        """Headers of every request to the sink's own servers, such as Authorization."""
        return {}

    def origins(self) -> Collection[str]:
        """Addresses of the sink's own servers; by default those that stand in its settings.

        Nobody else is sent `headers()`: no storage that an upload goes to, no host that a redirect
        leads to. A sink whose server stands in no setting names it here.
        """
        return tuple(addresses_in(self.settings))

    async def check(self) -> str:
        """Ask each of its own servers for the head of its first page, whose status is no matter."""
        return await reach(self.http, self.origins())

    async def release(self) -> None:
        """Close the connections."""
        await self.http.aclose()
