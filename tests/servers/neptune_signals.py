"""The web sockets of the stand-in for Neptune, over which its stop button speaks (RFC 6455)."""

import base64
import contextlib
import hashlib
import json
import queue
import socket
import threading

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _PING, _CLOSE = 0x81, 0x89, 0x88
_MASK = 4
"""Bytes before the payload of each frame that a client sends."""


class Signals:
    """Sockets that listen, by run.

    Attributes:
        opened: Runs in the order in which somebody began to listen.
    """

    def __init__(self):
        self.opened = []
        self._queues = []
        self._over = threading.Event()

    def send(self, kind, seconds=5):
        """Tell whoever listens."""
        text = json.dumps({"type": kind, "body": {"seconds": seconds}})
        self.send_frame(_TEXT, text.encode())

    def ping(self):
        """Ask whoever listens for a sign of life."""
        self.send_frame(_PING, b"")

    def drop(self):
        """Hang up on whoever listens."""
        for each in self._queues:
            each.put(None)

    def send_frame(self, kind, payload):
        """A frame of less than 126 bytes."""
        for each in self._queues:
            each.put(bytes([kind, len(payload)]) + payload)

    def close(self):
        """Hang up and serve nobody any more."""
        self._over.set()
        self.drop()

    def serve(self, exchange, run_id):
        """Answer the upgrade and pass frames on until somebody hangs up."""
        key = exchange.request.headers.get("sec-websocket-key", "")
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest())  # noqa: S324 - RFC 6455
        exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: " + accept + b"\r\n\r\n"
        )
        frames = queue.Queue()
        self._queues.append(frames)
        self.opened.append(run_id)
        received = exchange.connection.makefile("rb")
        threading.Thread(target=_until_closed, args=(received, frames), daemon=True).start()
        try:
            while not self._over.is_set() and (frame := frames.get()) is not None:
                exchange.send(frame)
        except OSError:
            pass  # the other side has hung up
        finally:
            self._queues.remove(frames)
            with contextlib.suppress(OSError):
                exchange.connection.shutdown(socket.SHUT_RDWR)


def _until_closed(received, frames):
    """Read what the other side sends, in frames of less than 126 bytes, until it hangs up."""
    try:
        while (head := received.read(2)) and head[0] != _CLOSE:
            received.read(_MASK + (head[1] & 0x7F))
    except (OSError, ValueError):
        pass  # hung up, here or there
    received.close()
    frames.put(bytes([_CLOSE, 0]))
    frames.put(None)
