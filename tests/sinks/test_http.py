"""The HTTP client: every request ends, says what happened, and tells nobody a secret."""

import gzip
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from pydantic import HttpUrl

import sinks
from bus import (
    DeliveryError,
    MisconfiguredError,
    RejectedError,
    SinkSettings,
    UnavailableError,
)
from sinks import HttpSink
from sinks.testing import (
    Exchange,
    Reply,
    ScriptedServer,
    apply_then_drop,
    bad_json,
    busy,
    giant,
    hung_names,
    redirect,
    reset,
    self_signed,
    slow_loris,
    status,
    truncated,
    zip_bomb,
)
from tests.sinks.conftest import KEY, PlainSink
from tests.waiting import HANG

pytestmark = pytest.mark.anyio

_HANGING = """
import socket, threading
import anyio
from tests.sinks.conftest import PlainSink

socket.getaddrinfo = lambda *arguments, **options: threading.Event().wait()

async def main():
    sink = PlainSink(url="http://far.invalid", connect_timeout=0.2)
    try:
        await sink.http.get("http://far.invalid")
    except Exception as error:
        print(type(error).__name__)

anyio.run(main)
"""


class SmallSink(HttpSink):
    """Has settings of its own kind."""

    name = "small"

    class Settings(SinkSettings, env_prefix="SMALL_TEST_"):
        address: HttpUrl

    def headers(self):
        return {"X-Small": "1"}

    async def write(self, batch, state):
        del batch
        return state


@contextmanager
def _deaf():
    """The address of a server that takes connections and never reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _slow_reader(count, pause):
    """The address of a server that reads so many bytes, rests so many seconds, and answers."""
    over = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            left = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b": ")
                left = int(value) if name == b"content-length" else left
            while left:
                left -= len(stream.read(min(count, left)))
                over.wait(pause)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join(10)


async def test_data_becomes_json(sink, server):
    """A body as data is sent as JSON with its length, behind the sink's own headers."""
    server.next(lambda exchange: exchange.answer(Reply(200, {"id": 7})))
    answer = await sink.http.post(f"{server.url}/a?b=1", json={"x": [1]}, params={"c": "d e"})

    assert answer.json() == {"id": 7}
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/a?b=1&c=d+e")
    assert request.json() == {"x": [1]}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("hotloop/")


async def test_content_goes_as_it_is(sink, server):
    """Text and bytes are not touched, with a type of the caller's."""
    await sink.http.put(server.url, content="a,ü", headers={"Content-Type": "text/csv"})

    assert server.requests[0].body == "a,ü".encode()
    assert server.requests[0].headers["content-type"] == "text/csv"


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_compressed_bodies(sink, server, size):
    """A body is compressed where that is asked for, whatever its size."""
    await sink.http.post(server.url, content=b"x" * size, gzip=True)

    (request,) = server.requests
    assert request.body == b"x" * size
    assert request.headers["content-encoding"] == "gzip"
    assert int(request.headers["content-length"]) < max(40, size // 50)


async def test_compressed_answers(sink, server):
    """A compressed answer comes back as what it was."""
    packed = Reply(200, gzip.compress(b"[1,2]"), {"content-encoding": "gzip"})
    server.next(lambda exchange: exchange.answer(packed))

    assert (await sink.http.get(server.url)).json() == [1, 2]


async def test_connections_are_reused_and_made_anew_after_closing(sink, server):
    """One connection serves requests in turn; a closed client makes another when asked again."""
    for _ in range(3):
        await sink.http.get(server.url)
    await sink.release()
    await sink.http.get(server.url)

    clients = [request.client for request in server.requests]
    assert len(set(clients[:3])) == 1
    assert len(set(clients)) == 2


async def test_statuses_become_what_the_sink_makes_of_them(sink, server):
    """4xx and 5xx are raised as classified; `good` ones come back."""
    server.next(status(400), status(401), status(503), busy(7), status(409))
    with pytest.raises(RejectedError, match=r"HTTP 400.*scripted 400"):
        await sink.http.get(server.url)
    with pytest.raises(MisconfiguredError, match="HTTP 401"):
        await sink.http.get(server.url)
    with pytest.raises(UnavailableError, match="HTTP 503"):
        await sink.http.get(server.url)
    with pytest.raises(UnavailableError) as busy_error:
        await sink.http.get(server.url)
    assert busy_error.value.retry_after == 7
    assert (await sink.http.get(server.url, good={409})).status == 409


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (reset, "Connection|disconnected|broken|Error"),
        (apply_then_drop, "disconnected"),
        (truncated, "closed connection|complete"),
        (giant, "more than 16777216 bytes"),
        (zip_bomb, "more than 16777216 bytes"),
        (slow_loris, "no complete answer in 2 s"),
    ],
)
async def test_bad_answers_are_unavailable(sink, server, fault, words):
    """Whatever breaks an answer, the caller is told in time that there was none."""
    server.next(fault)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=words) as caught:
        await sink.http.post(f"{server.url}/path", json=1)

    assert str(caught.value).startswith(f"POST {server.url}/path: ")
    assert time.monotonic() - began < HANG


async def test_a_page_is_no_json(sink, server):
    """Somebody else's page is told from data when it is read."""
    server.next(bad_json)
    answer = await sink.http.get(server.url)

    assert "sign in" in answer.text
    with pytest.raises(UnavailableError, match="no JSON"):
        answer.json()


async def test_a_silent_server_costs_the_read_timeout(sink, server):
    """Nothing at all is answered: the wait for a byte ends it, before the whole does."""
    server.next(lambda exchange: exchange.ended.wait(10))
    with pytest.raises(UnavailableError, match="nothing was answered for 1 s"):
        await sink.http.get(server.url)


async def test_a_server_that_takes_nothing():
    """A body that nobody reads is given up after the write timeout."""
    with _deaf() as url:
        sink = PlainSink(url=url, write_timeout=0.3, timeout=5.0)
        with pytest.raises(UnavailableError, match=r"nothing was taken for 0\.3 s"):
            await sink.http.post(url, content=bytes(64 << 20))
        await sink.release()


async def test_a_handshake_that_stalls():
    """A server that never answers the TLS handshake costs the connect timeout."""
    with _deaf() as url:
        sink = PlainSink(url=url, connect_timeout=0.3, timeout=5.0)
        with pytest.raises(UnavailableError, match=r"in 0\.3 s"):
            await sink.http.get(url.replace("http:", "https:"))
        await sink.release()


async def test_refused(sink, server):
    """A server that is down is unavailable, by its address."""
    server.down()
    with pytest.raises(UnavailableError, match="GET http://127"):
        await sink.http.get(server.url)


async def test_nothing_blocks_the_loop(sink, server, tmp_path):
    """Looking up, TLS contexts, compressing and reading files happen elsewhere."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))
    server.host = "localhost"
    with blockbuster_ctx() as blockbuster:
        # The lock of what measures coverage, which is not ours.
        locks = blockbuster.functions["threading.Lock.acquire"]
        locks.can_block_in("coverage/collector.py", "lock_data")
        await sink.http.post(server.url, content=bytes(1 << 20), gzip=True)
        await sink.http.upload("PUT", server.url, path)
        await sink.release()

    assert [len(request.body) for request in server.requests] == [1 << 20, 3 << 20]


async def test_many_at_once(sink, server):
    """Requests at the same time share a few connections, and each gets its own answer."""
    server.always = lambda exchange: exchange.answer(Reply(200, exchange.request.body))
    answers = {}

    async def ask(number):
        answers[number] = (await sink.http.post(server.url, json=number, timeout=HANG)).json()

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ask, number)

    assert answers == {number: number for number in range(50)}
    assert len({request.client for request in server.requests}) <= 10


async def test_cancelling_leaves_no_connection_behind(sink, server):
    """Requests given up at any moment do not keep later ones from being made."""
    await sink.http.get(server.url)
    for moment in range(40):
        with anyio.move_on_after(0.0002 * moment):
            await sink.http.post(server.url, content=bytes(100_000))
    async with anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(sink.http.get, server.url)


async def test_any_settings_will_do(server, monkeypatch):
    """A sink whose settings are not `HttpSettings` has the defaults, whatever the environment."""
    monkeypatch.setenv("TIMEOUT", "nonsense")
    sink = SmallSink(address=server.url)
    await sink.http.get(server.url)
    await sink.release()
    assert server.requests[0].headers["x-small"] == "1"


@pytest.mark.slow
async def test_importing_the_package_loads_no_client():
    """Sinks that write files do not pay for HTTP; the names are there all the same."""
    done = await anyio.run_process(
        [sys.executable, "-W", "error", "-c", "import sys, sinks; print('httpx' in sys.modules)"],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.strip() == b"False"
    assert sinks.__all__ == sorted(sinks.__all__) == dir(sinks)
    assert all(getattr(sinks, name) for name in sinks.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sinks.nonsense


class TestNames:
    """Resolving host names."""

    async def test_a_name_is_resolved(self, sink, server):
        """A name leads to its addresses, in turn until one takes the connection."""
        server.host = "localhost"  # ::1 comes first where there is IPv6; nobody listens there
        await sink.http.get(server.url)
        assert server.requests[0].headers["host"] == server.url.removeprefix("http://")

    async def test_no_such_name(self, sink):
        """A name that does not exist is unavailable: it may exist tomorrow."""
        with pytest.raises(UnavailableError, match="looked up"):
            await sink.http.get("http://nobody.invalid/")

    async def test_a_look_up_that_hangs(self, server):
        """It costs whoever asks the timeout, and the loop nothing; they share one thread."""
        server.host = "localhost"
        sink = PlainSink(url=server.url, connect_timeout=0.3)
        before = threading.active_count()
        with hung_names():
            began = time.monotonic()
            for _ in range(3):
                with pytest.raises(UnavailableError, match=r"looked up in 0\.3 s"):
                    await sink.http.get(server.url)
            assert time.monotonic() - began < HANG
            assert threading.active_count() <= before + 1
        await sink.http.get(server.url)
        await sink.release()

    @pytest.mark.slow
    @pytest.mark.timeout(60)
    async def test_a_look_up_that_hangs_does_not_hold_up_the_exit(self, tmp_path):
        """A process ends while a look-up has not returned, nor ever will."""
        program = tmp_path / "program.py"
        program.write_text(_HANGING)
        done = await anyio.run_process(
            [sys.executable, str(program)],
            stderr=subprocess.STDOUT,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )

        assert done.stdout.decode().strip() == "UnavailableError"


class TestSecrets:
    """What is told to whom."""

    async def test_headers_go_to_the_sinks_own_server_alone(self, sink, elsewhere):
        """Storage that an upload goes to is not told the sink's key."""
        await sink.http.put(elsewhere.url, content=b"x")
        assert "authorization" not in elsewhere.requests[0].headers

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    async def test_reading_follows_a_redirect_without_credentials(
        self, sink, server, elsewhere, code
    ):
        """Another host, which another port is, gets neither the key nor the caller's headers."""
        server.next(redirect(f"{elsewhere.url}/there", code))
        await sink.http.get(server.url, headers={"X-Token": KEY, "Cookie": KEY})

        (request,) = elsewhere.requests
        assert request.target == "/there"
        assert KEY not in str(request)

    async def test_reading_follows_on_its_own_host(self, sink, server):
        """On the same server the key goes along."""
        server.next(redirect("/there", 302))
        await sink.http.get(server.url)
        assert server.requests[1].target == "/there"
        assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    async def test_writing_never_leaves_its_host(self, sink, server, elsewhere, code):
        """Data is not sent elsewhere, and not turned into a GET that would look like success."""
        server.next(redirect(elsewhere.url, code))
        with pytest.raises(MisconfiguredError, match="set the address"):
            await sink.http.post(server.url, json={})
        assert elsewhere.requests == []

    async def test_writing_is_repeated_on_its_host_where_that_is_meant(self, sink, server):
        """307 repeats method and body."""
        server.next(redirect("/v2", 307))
        await sink.http.post(f"{server.url}/v1", json={"n": 1})
        assert [(r.method, r.target, r.json()) for r in server.requests] == [
            ("POST", "/v1", {"n": 1}),
            ("POST", "/v2", {"n": 1}),
        ]

    async def test_redirects_in_a_circle(self, sink, server):
        """A circle ends."""
        server.always = redirect("/", 302)
        with pytest.raises(MisconfiguredError, match="more than 5 redirects"):
            await sink.http.get(server.url)

    @pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
    async def test_errors_hold_no_secret(self, sink, server, code):
        """Keys of settings, headers and addresses are masked, also if the server repeats them."""

        def echo(exchange: Exchange) -> None:
            request = exchange.request
            exchange.answer(Reply(code, f"{request.target} {request.headers}".encode()))

        server.next(echo)
        url = server.url.replace("http://", "http://me:word-of-pass@")
        with pytest.raises(DeliveryError) as caught:
            await sink.http.get(f"{url}/x?token=tok-123456&n=5", headers={"X-Api-Key": "k-99999"})
        said = f"{caught.value!r} {caught.value}"
        for secret in (KEY, "word-of-pass", "tok-123456", "k-99999"):
            assert secret not in said
        assert "n=5" in said
        assert caught.value.__cause__ is None

    async def test_credentials_in_the_address_become_a_header(self, server):
        """`user:password@` is basic authentication, and not in the request line."""
        sink = PlainSink(url="http://other.invalid")
        await sink.http.get(server.url.replace("http://", "http://me:pass%40word@"))
        await sink.release()
        assert server.requests[0].headers["authorization"] == "Basic bWU6cGFzc0B3b3Jk"

    async def test_a_key_with_a_line_break(self, server):
        """It is said what is wrong, not what the key is."""
        sink = PlainSink(url=server.url, key=f"{KEY}\n")
        with pytest.raises(MisconfiguredError, match="line break") as caught:
            await sink.http.get(server.url)
        assert KEY not in str(caught.value)

    async def test_reprs(self, sink):
        """No repr of the client or the sink's settings shows the key."""
        assert KEY not in f"{sink.http!r} {vars(sink)!r} {vars(sink.http)!r}"

    @pytest.mark.parametrize("address", ["", "ftp://x", "http://", "nonsense"])
    async def test_no_address(self, sink, address):
        """What is no address is a wrong setting."""
        with pytest.raises(MisconfiguredError, match="check the address"):
            await sink.http.get(address)


class TestTls:
    """Certificates."""

    async def test_nobody_vouches(self, tmp_path):
        """A certificate that cannot be checked is no server; the file of authorities mends it."""
        certificate = self_signed(tmp_path)
        with ScriptedServer(certificate=certificate) as server:
            strict = PlainSink(url=server.url)
            with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await strict.http.get(server.url)
            await strict.release()
            assert server.requests == []

            for verify in (certificate, False):
                sink = PlainSink(url=server.url, verify=verify)
                await sink.http.get(server.url)
                await sink.release()
            assert len(server.requests) == 2

    async def test_a_file_that_is_none(self, server, tmp_path):
        """A wrong path is a wrong setting."""
        sink = PlainSink(url=server.url, verify=tmp_path / "none.pem")
        with pytest.raises(MisconfiguredError, match="check verify"):
            await sink.http.get(server.url.replace("http:", "https:"))


class TestProxies:
    """Proxies from the environment."""

    async def test_requests_go_through_the_proxy(self, elsewhere, monkeypatch):
        """The proxy gets the whole address and its own credentials, and errors hold neither."""
        monkeypatch.setenv("http_proxy", elsewhere.url.replace("http://", "http://us:pr-word@"))
        sink = PlainSink(url="http://far.invalid")
        await sink.http.get("http://far.invalid/x")
        elsewhere.next(status(407))
        with pytest.raises(DeliveryError) as caught:
            await sink.http.get("http://far.invalid/x")
        await sink.release()

        assert elsewhere.requests[0].target == "http://far.invalid/x"
        assert elsewhere.requests[0].headers["proxy-authorization"] == "Basic dXM6cHItd29yZA=="
        assert "pr-word" not in str(caught.value)

    async def test_exceptions(self, server, monkeypatch):
        """Hosts in NO_PROXY are reached directly."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "example.org, 127.0.0.1")
        sink = PlainSink(url=server.url)
        await sink.http.get(server.url)
        await sink.release()
        assert len(server.requests) == 1


class TestUploads:
    """Files from disk."""

    async def test_a_file_in_pieces(self, sink, server, tmp_path):
        """The file arrives as it is, with its length; progress only grows, up to all of it."""
        path, told = tmp_path / "file", []
        path.write_bytes(bytes(range(256)) * 12_000)
        await sink.http.upload(
            "PUT", server.url, path, progress=lambda sent, size: told.append((sent, size))
        )

        assert server.requests[0].body == path.read_bytes()
        assert told == sorted(told)
        assert told[0] == (0, 3_072_000)
        assert told[-1] == (3_072_000, 3_072_000)

    async def test_a_part(self, sink, server, tmp_path):
        """An offset and a length choose a part; a part that is not there is refused."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        await sink.http.upload("PUT", server.url, path, offset=2, length=3)
        assert server.requests[0].body == b"234"
        with pytest.raises(RejectedError, match="10 bytes"):
            await sink.http.upload("PUT", server.url, path, offset=8, length=3)

    async def test_in_a_frame(self, sink, server, tmp_path):
        """What stands before and behind the file is sent with it, and counted."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789" * 100_000)
        await sink.http.upload("POST", server.url, path, frame=(b"<", b">"))
        path.write_bytes(b"")
        await sink.http.upload("POST", server.url, path, frame=(b"<", b">"))

        bodies = [request.body for request in server.requests]
        assert bodies == [b"<" + b"0123456789" * 100_000 + b">", b"<>"]

    async def test_many_in_one_body(self, sink, server, tmp_path):
        """Bytes and files in their order, counted; one that is not there is refused for good."""
        path, empty = tmp_path / "file", tmp_path / "empty"
        path.write_bytes(b"0123456789" * 100_000)
        empty.touch()
        pieces = [b"<", path, b"", empty, b"|", path, b">"]
        await sink.http.upload_joined("PUT", server.url, pieces)
        whole = path.read_bytes()
        assert server.requests[0].body == b"<" + whole + b"|" + whole + b">"
        with pytest.raises(RejectedError, match="no file"):
            await sink.http.upload_joined("PUT", server.url, [path, tmp_path / "gone"])

    async def test_an_empty_file_and_none(self, sink, server, tmp_path):
        """An empty file is a file; what is not there is refused for good."""
        path = tmp_path / "file"
        path.touch()
        await sink.http.upload("PUT", server.url, path)
        assert server.requests[0].headers["content-length"] == "0"
        with pytest.raises(RejectedError, match="no file"):
            await sink.http.upload("PUT", server.url, tmp_path / "none")

    async def test_a_file_that_changes(self, sink, server, tmp_path):
        """A file that is written to meanwhile is not sent as if it were whole."""
        path = tmp_path / "file"
        path.write_bytes(bytes(5 << 20))

        def change(sent: int, _size: int) -> None:
            if sent:
                path.write_bytes(b"other")

        with pytest.raises(UnavailableError, match="changed while it was sent"):
            await sink.http.upload("PUT", server.url, path, progress=change)

    async def test_it_may_take_as_long_as_it_gets_on(self, server, tmp_path):
        """The timeout is for standing still, not for the whole."""
        path = tmp_path / "file"
        path.write_bytes(bytes(48 << 20))
        sink = PlainSink(url=server.url, timeout=0.6, read_timeout=0.6)
        with _slow_reader(2 << 20, 0.05) as url:
            began = time.monotonic()
            answer = await sink.http.upload("PUT", url, path)
            took = time.monotonic() - began
        await sink.release()
        print(f"48 MB took {took:.1f} s with a timeout of 0.6 s")  # noqa: T201 - for -rP

        assert answer.status == 200
        assert took > 0.6
