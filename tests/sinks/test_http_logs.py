"""What the HTTP client hands to the libraries below it: no secret for their logs, no cookies."""

import logging
import socket
import threading
from contextlib import contextmanager

import anyio
import anyio.to_thread
import httpx
import pytest

from bus import UnavailableError
from sinks._addresses import parsed
from sinks._http_logs import discreet
from sinks.testing import Reply, redirect
from tests.sinks.conftest import KEY, PlainSink

pytestmark = pytest.mark.anyio

SECRETS = (KEY, "hook-0123456789", "word-0123456789", "echo-0123456789", "body-0123456789")
TELLING = (
    b"HTTP/1.1 %d echo-0123456789\r\nset-cookie: echo-0123456789=1\r\nx-echo: echo-0123456789\r\n"
    b"location: http://echo-0123456789:port/echo-0123456789\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


@contextmanager
def _answering(*answers):
    """The address of a server that gives these bytes, a connection for each; and what it read."""
    heads = []

    def serve():
        for answer in answers:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                head = b""
                while not head.endswith(b"\r\n\r\n") and (line := stream.readline()):
                    head += line
                heads.append(head)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        thread.join(10)


@pytest.mark.parametrize("code", [200, 302, 503])
async def test_no_log_holds_a_secret(caplog, code):
    """At DEBUG neither what is sent nor what is answered gets out, and what was done still does."""
    caplog.set_level(logging.DEBUG)
    with _answering(TELLING % code, b"echo-0123456789 is no answer\r\n\r\n") as (url, heads):
        sink = PlainSink(url=url)
        address = (
            f"{url.replace('http://', 'http://me:word-0123456789@')}/hook-0123456789?key={KEY}"
        )
        answer = await sink.http.post(address, json="body-0123456789", good={302, 503})
        with pytest.raises(UnavailableError, match="illegal status line"):
            await sink.http.post(address, json="body-0123456789")
        await sink.release()

    assert heads[0].startswith(f"POST /hook-0123456789?key={KEY} HTTP/1.1\r\n".encode())
    assert (answer.status, answer.headers["x-echo"]) == (code, "echo-0123456789")
    assert f"POST {url}/***" in caplog.text
    assert "receive_response_headers.complete" in caplog.messages
    assert "receive_response_headers.failed" in caplog.messages
    for secret in SECRETS:
        assert secret not in caplog.text


async def test_a_terminal_is_not_flooded(sink, server, caplog):
    """With INFO enabled a sink's requests are not logged; with DEBUG they are, as DEBUG."""
    caplog.set_level(logging.INFO)
    for _ in range(3):
        await sink.http.get(server.url)
    assert caplog.messages == []
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(server.url)
    assert [(r.name, r.levelname) for r in caplog.records] == [("httpx", "INFO")]

    caplog.clear()
    caplog.set_level(logging.DEBUG)
    await sink.http.get(server.url)
    (line,) = [record for record in caplog.records if record.name == "httpx"]
    assert line.levelname == "DEBUG"
    assert line.getMessage().startswith(f"HTTP Request: GET {server.url}")


@pytest.mark.parametrize("name", ["httpcore.http11", "httpcore.socks"])
def test_steps_are_named_without_their_data(caplog, name):
    """What quotes the wire is cut, a SOCKS proxy's password included; arguments are too."""
    caplog.set_level(logging.DEBUG)
    with discreet():
        logging.getLogger(name).debug("setup.started auth=%r", (b"me", b"word-0123456789"))
    logging.getLogger(name).debug("setup.started auth=%r", "anybody")

    assert caplog.messages == ["setup.started", "setup.started auth='anybody'"]


async def test_others_find_everything_in_their_logs(sink, server, caplog):
    """Somebody else's requests are logged as before, also while one of ours is under way."""
    caplog.set_level(logging.DEBUG, "httpcore.http11")
    asked, over = threading.Event(), threading.Event()

    def late(exchange):
        asked.set()
        over.wait(10)
        exchange.answer(Reply(200))

    server.next(late)
    async with anyio.create_task_group() as group:
        group.start_soon(sink.http.get, server.url)
        assert await anyio.to_thread.run_sync(asked.wait, 10)
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(server.url)
        over.set()

    heads = [text for text in caplog.messages if text.startswith("receive_response_headers.comp")]
    assert len(heads) == 2
    assert "return_value=(b'HTTP/1.1', 200" in heads[0]
    assert heads[1] == "receive_response_headers.complete"


async def test_cookies_are_not_kept(sink, server):
    """A server's cookie is not sent back to it."""
    server.next(lambda exchange: exchange.answer(Reply(200, b"", {"set-cookie": "a=1"})))
    await sink.http.get(server.url)
    await sink.http.get(server.url)
    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize("location", ["http://[::1:port/", "https:///x"])
async def test_a_redirect_to_no_address(sink, server, location):
    """It is no answer, unless the caller takes redirects for answers and gets it as it came."""
    nowhere = redirect(location, 302)
    server.next(nowhere, nowhere)
    with pytest.raises(UnavailableError, match="HTTP 302 leads to no valid address"):
        await sink.http.get(server.url)
    answer = await sink.http.get(server.url, good={302})
    assert answer.headers["location"] == location


async def test_a_tunnel_is_asked_for_by_host_and_port_alone(monkeypatch):
    """A proxy on the way to an encrypted server learns neither path nor key."""
    with _answering(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n") as (proxy, heads):
        monkeypatch.setenv("https_proxy", proxy)
        sink = PlainSink(url="https://far.invalid")
        with pytest.raises(UnavailableError, match="502"):
            await sink.http.get("https://far.invalid/hook-0123456789")
        await sink.release()

    assert heads[0].startswith(b"CONNECT far.invalid:443 HTTP/1.1\r\n")
    assert b"hook" not in heads[0]
    assert KEY.encode() not in heads[0]


@pytest.mark.parametrize(
    ("address", "location", "there"),
    [
        ("http://[::1]:8080/a/b?c=1", "d", "http://[::1]:8080/a/d"),
        ("http://A.test:80/a", "//b.test/x?y#z", "http://b.test/x?y"),
        ("http://a.test", "https://me:word@b.test:444", "https://b.test:444/"),
    ],
)
def test_where_a_redirect_leads(address, location, there):
    """Relative and absolute locations, without credentials and fragment, from any kind of host."""
    assert str(parsed(address)[0].join(location)) == there
