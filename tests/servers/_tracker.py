"""What the stand-ins of trackers share: they serve in a thread, remember requests, fail as told.

The HTTP is that of the conformance kit's server, for which a request that was cut off, because its
client was killed, is none.
"""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from sinks.testing import Exchange, Reply, ScriptedServer


class Refused(Exception):  # noqa: N818 - an answer, no error of ours
    """An answer that is no 200; each service words its body."""

    def __init__(
        self,
        status: int,
        body: object = b"",
        message: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reply = Reply(status, encoded(body), headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived, but for its body's compression; the path is still quoted."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes


class TrackerServer:
    """A tracker's server; within `with` it serves on `url` from a thread.

    Attributes:
        methods: Those that it serves.
        refusal: How it refuses, given a status alone.
        requests: Calls so far: method, call, and what the service takes for the body.
        headers: Those of each request.
        faults: For each call what its next requests meet: "lose" applies it and closes the
            connection, a number or a `Refused` is answered instead of applying it.
        before: Called with the name of each call, before it is remembered and answered.
    """

    methods: ClassVar[frozenset[str]] = frozenset({"GET", "POST"})
    refusal: ClassVar[type[Refused]] = Refused

    def __init__(self, *, certificate: Path | None = None) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.faults: defaultdict[str, deque[Any]] = defaultdict(deque)
        self.before: Callable[[str], object] = lambda _call: None
        self._lock = threading.Lock()
        self._failures: list[Exception] = []
        self._http = ScriptedServer(certificate=certificate)
        self._http.always = self.serve

    def __enter__(self) -> Self:
        self._http.up()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        assert self._failures == [], "the stand-in itself is at fault"

    @property
    def url(self) -> str:
        """Where it serves, since `with`."""
        return self._http.url

    def calls(self, call: str) -> list[Any]:
        """The bodies of the requests of a call."""
        return [body for _, name, body in self.requests if name == call]

    def read(self, request: Request) -> tuple[str, Any]:
        """What the service calls a request, and its body; may refuse it."""
        raise NotImplementedError

    def apply(self, request: Request, call: str, body: Any) -> Any:
        """Do what a request asks, one at a time: an answer, or what it says; may refuse."""
        raise NotImplementedError

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Reply | None:
        """Do what a request asks; None if the answer is lost."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(method, parts.path, query, headers, content)
        try:
            if method not in self.methods:
                raise self.refusal(501)
            call, body = self.read(request)
            self.before(call)
            with self._lock:
                self.requests.append((method, call, body))
                self.headers.append(headers)
                fault = self.faults[call].popleft() if self.faults[call] else None
                self._raise(fault)
                found = self.apply(request, call, body)
        except Refused as refusal:
            return refusal.reply
        if fault == "lose":
            return None
        return found if isinstance(found, Reply) else Reply(200, encoded(found))

    def _raise(self, fault: Any) -> None:
        if isinstance(fault, Refused):
            raise fault
        if isinstance(fault, int):
            raise self.refusal(fault)

    def serve(self, exchange: Exchange) -> None:
        """Deal with what arrived."""
        request = exchange.request
        try:
            reply = self.answer(request.method, request.target, request.headers, request.body)
        except Exception as error:
            self._failures.append(error)
            raise
        if reply is None:
            exchange.drop()
        else:
            exchange.answer(reply)


def encoded(found: object) -> bytes:
    """Data as JSON, bytes as they are."""
    return found if isinstance(found, bytes) else json.dumps(found).encode()
