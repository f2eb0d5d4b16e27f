"""Bodies of requests to the stand-in for Comet, taken apart strictly: JSON and RFC 7578."""

import contextlib
import gzip
import json
import re
from http.server import BaseHTTPRequestHandler


class Refused(Exception):  # noqa: N818 - an answer, no error of ours
    """An answer that is no 200."""

    def __init__(self, status, code=0, message="", headers=None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"msg": message, "code": status, "sdk_error_code": code}


def decoded(headers, content):
    """The body as data; None if it is none."""
    if not content:
        return None
    if not headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, 0, "a body must be application/json")
    try:
        if headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return json.loads(content, parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise Refused(400, 0, f"the body cannot be read: {error}") from None


def _refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def parts_of(headers, content):
    """The parts of a multipart body by name."""
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/form-data; boundary="):
        raise Refused(415, 0, "an upload must be multipart/form-data")
    _, *pieces, last = content.split(b"--" + kind.partition("boundary=")[2].encode())
    if last != b"--\r\n":
        raise Refused(400, 0, "the parts do not end")
    found = {}
    for piece in pieces:
        head, _, body = piece.partition(b"\r\n\r\n")
        name = re.search(rb'\r\nContent-Disposition: form-data; name="(\w+)"', head)
        if name is None or not body.endswith(b"\r\n"):
            raise Refused(400, 0, "a part is malformed")
        found[name[1].decode()] = body[:-2]
    return found


def handler(server):
    """A class of handlers that ask the server's `answer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self):
            with contextlib.suppress(ConnectionError):  # whoever asked was killed
                super().handle()

        def _serve(self):
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, body, answers = server.answer(self.command, self.path, headers, content)
            if not answers:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-type": "application/json", **more}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of http.server

        def log_message(self, *_):
            """Be quiet."""

    return Handler
