"""What servers, networks and name servers do to a request when it goes badly."""

import functools
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from sinks.testing._server import Action, Exchange, Reply

_MEGABYTE: Final = bytes(1 << 20)
_GIANT: Final = 256
"""Megabytes of an answer that has no reasonable end."""
_BOMB: Final = 128
_OFTEN: Final = 5
"""Times in a row after which a batch of ten, if it is halved at each, is down to a dead letter."""


def reset(exchange: Exchange) -> None:
    """The connection breaks off after the request, which nobody has looked at."""
    exchange.drop(reset=True)


def silent(exchange: Exchange) -> None:
    """The server takes the request and never answers."""
    exchange.ended.wait(60)
    exchange.drop()


def status(code: int, *, headers: dict[str, str] | None = None) -> Action:
    """The server answers with this status and applies nothing."""

    def act(exchange: Exchange) -> None:
        exchange.answer(Reply(code, {"error": f"scripted {code}"}, headers or {}))

    return act


def busy(seconds: int, *, date: bool = False) -> Action:
    """429 with a wish to be left alone, in seconds or as a date (RFC 9110 section 10.2.3)."""

    def act(exchange: Exchange) -> None:
        wish = formatdate(time.time() + seconds, usegmt=True) if date else str(seconds)
        exchange.answer(Reply(429, {"error": "slow down"}, {"retry-after": wish}))

    return act


def apply_then_drop(exchange: Exchange) -> None:
    """The service takes what it was sent; the answer is lost."""
    exchange.apply()
    exchange.drop()


def slow_loris(exchange: Exchange) -> None:
    """The answer comes byte by byte, each in time, and never ends."""
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    for _ in range(1000):
        exchange.send(b" ")
        if exchange.ended.wait(0.05):
            break


def truncated(exchange: Exchange) -> None:
    """The answer says how long it is, and breaks off before."""
    exchange.apply()
    exchange.send(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"ok": tr')


def giant(exchange: Exchange) -> None:
    """The answer has a quarter of a gigabyte."""
    exchange.apply()
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    for _ in range(_GIANT):
        exchange.send(_MEGABYTE)


def zip_bomb(exchange: Exchange) -> None:
    """The answer is small until it is decompressed."""
    exchange.apply()
    exchange.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n"
    )
    exchange.send(_bomb())


def bad_json(exchange: Exchange) -> None:
    """The service took it, and something in between answers with a page of its own."""
    exchange.apply()
    exchange.answer(Reply(200, b"<html>sign in</html>", {"content-type": "text/html"}))


def redirect(address: str, code: int = 307) -> Action:
    """The server sends everybody to this address."""

    def act(exchange: Exchange) -> None:
        exchange.answer(Reply(code, b"", {"location": address}))

    return act


def echo(code: int) -> Action:
    """The server answers with this status and all it was told, credentials included."""

    def act(exchange: Exchange) -> None:
        request = exchange.request
        heard = [request.target, *request.headers.values()]
        exchange.answer(Reply(code, {"heard": list(heard)}))

    return act


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to the requests of a test.

    Attributes:
        name: What a test calls it.
        actions: What becomes of the next requests.
        pause: Seconds that must pass between the first request and the second.
        applied: Whether the service took the request though the client cannot know.
    """

    name: str
    actions: tuple[Action, ...]
    pause: float = 0.0
    applied: bool = False


FAULTS: Final = (
    Fault("reset", (reset, reset)),
    Fault("429 in seconds", (busy(1),), pause=0.9),
    Fault("429 by date", (busy(2, date=True),), pause=0.9),
    Fault("500", (status(500), status(502), status(503))),
    Fault("apply then drop", (apply_then_drop,) * _OFTEN, applied=True),
    Fault("slow loris", (slow_loris,)),
    Fault("truncated answer", (truncated,) * _OFTEN, applied=True),
    Fault("giant answer", (giant,), applied=True),
    Fault("zip bomb", (zip_bomb,), applied=True),
    Fault("bad JSON", (bad_json,) * _OFTEN, applied=True),
)
"""What a sink must survive of its server; each ends by itself."""


@contextmanager
def hung_names(longest: float = 60.0) -> Generator[None]:
    """Look-ups of names do not return while this lasts, or for so many seconds."""
    real = socket.getaddrinfo
    over = threading.Event()

    def hang(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        host = arguments[0] if arguments else options.get("host")
        if isinstance(host, (str, bytes)) and not _is_numeric(host):
            over.wait(longest)
        return real(*arguments, **options)

    socket.getaddrinfo = hang
    try:
        yield
    finally:
        socket.getaddrinfo = real
        over.set()


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key, in one PEM file.

    Raises:
        OSError: There is no `openssl` command.
        subprocess.CalledProcessError: It failed.
    """
    key, certificate, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    subprocess.run(  # noqa: S603 - nothing in it comes from outside
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", str(key)),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


def _is_numeric(host: str | bytes) -> bool:
    text = host.decode() if isinstance(host, bytes) else host
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, text)
            return True
    return False


@functools.cache
def _bomb() -> bytes:
    """Zeros, of which one megabyte is compressed and the rest repeated (RFC 1951, RFC 1952)."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = packer.compress(_MEGABYTE) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(_BOMB):
        check = zlib.crc32(_MEGABYTE, check)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    size = _BOMB * len(_MEGABYTE)
    return head + block * _BOMB + packer.flush() + struct.pack("<II", check, size)
