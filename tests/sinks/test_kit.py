"""The conformance kit: our webhook passes it, and its tests catch sinks that are wrong."""

import gzip
import inspect
import logging
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from bus import (
    Batch,
    DeliveryError,
    MetricsLogged,
    MisconfiguredError,
    Outcome,
    Promise,
    RejectedError,
    Response,
    SinkContext,
    SinkSettings,
    State,
    UnavailableError,
)
from bus._handover import PlainSink
from sinks import HttpSettings, HttpSink
from sinks.testing import FAULTS, Received, Reply, ScriptedServer, SinkSuite
from sinks.webhook import WebhookSink

KEY = "signing-0123456789"
PATH = "/hooks/T0123/B4567/path-0123456789"


@pytest.mark.slow
class TestWebhook(SinkSuite):
    """The generic webhook."""

    secrets = (KEY, PATH)
    patience = 4.0

    def make_sink(self, server: ScriptedServer) -> WebhookSink:
        return WebhookSink(
            url=server.url + PATH,
            secret=KEY,
            events=("metrics_logged",),
            timeout=1.0,
            read_timeout=0.7,
        )

    def service(self, request: Received) -> Reply:
        if request.target != PATH:
            return Reply(404)
        return Reply(200, {"ok": True})

    def received(self, server: ScriptedServer) -> list[float]:
        return [
            event["metrics"]["n"]
            for request in server.applied
            for event in request.json()["events"]
        ]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        return server.applied[-1].json()["outcome"]


class CsvServer(HttpSink):
    """Posts each batch as CSV: what somebody writes who has read the documentation."""

    name = "csv-server"
    wants = (MetricsLogged,)

    class Settings(HttpSettings, env_prefix="CSV_SERVER_"):
        url: HttpUrl
        api_key: SecretStr

    def headers(self):
        return {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}

    async def write(self, batch: Batch, state: State) -> State:
        rows = [f"{e.step},{e.metrics['n']}\n" for e in batch.events]
        await self.http.post(self.settings.url, content="".join(rows))
        return state


@pytest.mark.slow
class TestCsvServer(SinkSuite):
    """The kit's own example."""

    secrets = ("key-0123456789",)
    patience = 4.0

    def make_sink(self, server):
        return CsvServer(url=f"{server.url}/rows", api_key="key-0123456789", timeout=1.0)

    def service(self, request: Received) -> Reply:
        if request.headers.get("authorization") != "Bearer key-0123456789":
            return Reply(401)
        return Reply(200, {"ok": True})

    def received(self, server: ScriptedServer) -> list[float]:
        lines = b"".join(request.body for request in server.applied).decode().split()
        return [float(line.split(",")[1]) for line in lines]


class ForgetfulSink(WebhookSink):
    """Takes every failure for a delivery."""

    async def write(self, batch: Batch, state: State) -> State:
        try:
            return await super().write(batch, state)
        except DeliveryError:
            return state


class HardSink(WebhookSink):
    """Takes every failure for the events' fault."""

    async def write(self, batch: Batch, state: State) -> State:
        try:
            return await super().write(batch, state)
        except DeliveryError as error:
            raise RejectedError(str(error)) from error


class JsonSink(WebhookSink):
    """Insists on an answer in JSON, and takes a page for the events' fault."""

    async def _post(self, content: bytes, delivery: str) -> None:
        del delivery
        answer = await self.http.post(self.settings.url.get_secret_value(), content=content)
        try:
            answer.json()
        except UnavailableError as error:
            raise RejectedError("no JSON") from error


class HastySink(WebhookSink):
    """Does not tell how long the server wants to be left alone."""

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        error = super().classify(response, now=now)
        return UnavailableError("busy") if isinstance(error, UnavailableError) else error


class BoastfulSink(WebhookSink):
    """Promises more than its protocol gives."""

    promise = Promise(delivery="once")


class GreedySink(WebhookSink):
    """Reads an answer whatever its size."""

    async def _post(self, content: bytes, delivery: str) -> None:
        del delivery
        url = self.settings.url.get_secret_value()
        await self.http.post(url, content=content, limit=1 << 40, timeout=15.0)


class PatientSink(WebhookSink):
    """Waits for answers far longer than anybody has."""

    def __init__(self, settings: SinkSettings | None = None, /, **fields: object) -> None:
        super().__init__(settings, **{**fields, "timeout": 900.0, "read_timeout": 900.0})


class TrustingSink(WebhookSink):
    """Checks no certificates."""

    def __init__(self, settings: SinkSettings | None = None, /, **fields: object) -> None:
        super().__init__(settings, **{**fields, "verify": False})


class OrdinarySink(WebhookSink):
    """Uses an HTTP client as it comes, anew for each request."""

    async def _post(self, content: bytes, delivery: str) -> None:
        del delivery
        async with httpx.AsyncClient(follow_redirects=True) as client:
            try:
                answer = await client.post(
                    self.settings.url.get_secret_value(), content=content, headers={"x-key": KEY}
                )
            except httpx.HTTPError as error:
                raise UnavailableError("no answer") from error
            if answer.is_error:
                raise UnavailableError(answer.text)


class BackwardSink(WebhookSink):
    """Sends a batch's events in the wrong order."""

    async def write(self, batch: Batch, state: State) -> State:
        turned = Batch(list(batch)[::-1], batch.commit)
        return await super().write(turned, state)


class RepeatingSink(WebhookSink):
    """Sends everything once more at the end."""

    def __init__(self, settings: SinkSettings | None = None, /, **fields: object) -> None:
        super().__init__(settings, **fields)
        self._sent: list[tuple[bytes, str]] = []

    async def _post(self, content: bytes, delivery: str) -> None:
        self._sent.append((content, delivery))
        await super()._post(content, delivery)

    async def close(self, outcome: Outcome, state: State) -> State:
        del outcome
        for content, delivery in list(self._sent):
            await super()._post(content, delivery)
        return state


class StubbornSink(WebhookSink):
    """Takes a refused event for a wrong setting."""

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        error = super().classify(response, now=now)
        return MisconfiguredError("no") if isinstance(error, RejectedError) else error


class CheerfulSink(WebhookSink):
    """Every run has finished."""

    async def close(self, outcome: Outcome, state: State) -> State:
        del outcome
        return await super().close("finished", state)


class TalkativeSink(WebhookSink):
    """Logs its settings."""

    async def open(self, context: SinkContext, state: State) -> State:
        logging.getLogger("talkative").info("posting to %s", self.settings.url.get_secret_value())
        return await super().open(context, state)


def local_sink() -> type[WebhookSink]:
    class LocalSink(WebhookSink):
        """Cannot be imported."""

    return LocalSink


WRONG = [
    *((ForgetfulSink, name) for name in ("reset", "429 in seconds", "500", "slow loris")),
    (HardSink, "apply then drop"),
    (JsonSink, "bad JSON"),
    (HastySink, "429 in seconds"),
    (HastySink, "429 by date"),
    (BoastfulSink, "apply then drop"),
    (BoastfulSink, "truncated answer"),
    (GreedySink, "giant answer"),
    (GreedySink, "zip bomb"),
    (PatientSink, "slow loris"),
    (PatientSink, "test_answers_that_never_come"),
    (ForgetfulSink, "test_a_server_that_is_down"),
    (OrdinarySink, "test_a_redirect_tells_nobody_else 302"),
    (OrdinarySink, "test_a_redirect_tells_nobody_else 307"),
    (TrustingSink, "test_a_server_that_cannot_show_who_it_is"),
    (OrdinarySink, "test_look_ups_that_hang"),
    (OrdinarySink, "test_connections_are_kept"),
    (BackwardSink, "test_everything_arrives_once_in_order"),
    (RepeatingSink, "test_who_goes_on_sends_nothing_twice"),
    (StubbornSink, "test_a_refused_event_is_kept"),
    (CheerfulSink, "test_closing_tells_the_outcome"),
    (TalkativeSink, "test_secrets_stay_secret"),
    (local_sink(), "test_settings_survive_as_plain_data"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "what"), WRONG, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_a_wrong_sink_is_caught(kind, what, tmp_path, caplog):
    """Each fault and each promise of the kit fails the sink that is wrong in just that."""
    suite = TestWebhook()
    right = suite.make_sink
    suite.make_sink = lambda server: kind(**PlainSink.of(right(server)).settings)
    vars(suite)["patience"] = 2.5
    fault = next((each for each in FAULTS if each.name == what), None)
    name, _, code = what.partition(" ")
    name = "test_a_fault_loses_nothing" if fault is not None else name
    with ScriptedServer(suite.service) as server, ScriptedServer() as elsewhere:
        given = {
            "fault": fault,
            "code": int(code) if code.isdigit() else 500,
            "server": server,
            "elsewhere": elsewhere,
            "outcome": "failed",
            "tmp_path": tmp_path,
            "caplog": caplog,
        }
        test = getattr(suite, name)
        wanted = inspect.signature(test).parameters
        with pytest.raises(AssertionError) as caught:
            test(**{key: value for key, value in given.items() if key in wanted})
    print(f"{kind.__name__}, {what}: {str(caught.value)[:120]}")  # noqa: T201 - for -rP


def test_the_server_is_strict():
    """A rule that is broken is answered with 400, remembered, and never shown to the service."""

    def typed(request: Received) -> str | None:
        return None if "content-type" in request.headers else "a body needs its type"

    with ScriptedServer(rules=(typed,)) as server, httpx.Client() as client:
        refused = client.post(server.url, content=b"{}")
        taken = client.post(server.url, json={})

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert server.breaches == ["a body needs its type"]
    assert (len(server.requests), len(server.applied)) == (2, 1)


def test_the_server_reads_bodies_in_chunks_and_packed():
    """A body arrives as what it was, however it travelled; one that is no gzip is a breach."""
    with ScriptedServer() as server, httpx.Client() as client:
        client.post(server.url, content=iter([b"ab", b"c"]))
        packed = {"content-encoding": "gzip"}
        client.post(server.url, content=gzip.compress(b"def"), headers=packed)
        client.post(server.url, content=b"def", headers=packed)

    assert [request.body for request in server.requests] == [b"abc", b"def", b"def"]
    assert server.breaches == ["the body is no gzip"]


def test_the_server_goes_down_and_comes_back():
    """While it is down connections are refused; then it is where it was."""
    with ScriptedServer() as server:
        url = server.url
        server.down()
        with pytest.raises(httpx.ConnectError), httpx.Client() as client:
            client.get(url)
        server.up()
        with httpx.Client() as client:
            assert client.get(url).status_code == 200


@pytest.mark.parametrize("head", ["content-length: 9", "transfer-encoding: chunked"])
def test_a_request_that_was_cut_off_is_none(head):
    """Its client was killed: the service is shown nothing of it, and it is no breach."""
    cut = f"POST / HTTP/1.1\r\n{head}\r\n\r\n8\r\nabc".encode()
    with ScriptedServer() as server:
        client = socket.create_connection(("127.0.0.1", urlsplit(server.url).port))
        with client:
            client.sendall(cut)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""

    assert (server.requests, server.applied, server.breaches) == ([], [], [])
