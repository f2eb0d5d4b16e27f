"""Sends what Comet's own client sent to the stand-in, from the recordings of it."""

import json
from functools import partial
from urllib.parse import urlencode

from tests.servers import _recordings

NAMES = _recordings.names_of("comet")
recorded = partial(_recordings.load, "comet")

_AFTER = {"resume": ("online_basic",), "resume_step_copy": ("online_basic",)}
"""Recordings of clients that go on with an experiment of another one."""


class Replay:
    """Sends recorded requests with the ids that this server gave."""

    def __init__(self, server):
        self.server = server
        self.ids = _recordings.Ids()

    def send(self, line, *, body=None, query=None):
        """The status and error code that the stand-in answers."""
        request = line["request"]
        body = request["body"] if body is None else body
        query = request["query"] if query is None else query
        headers = {name.lower(): value for name, value in request["headers"].items()}
        content = self._content(body, headers)
        target = self.ids.translate(f"{request['path']}?{urlencode(query)}")
        reply = self.server.answer(request["method"], target, headers, content)
        answer = json.loads(reply.body)
        for name in ("runId", "experimentKey"):
            if name in answer and name in line["response"]["body"]:
                self.ids[line["response"]["body"][name]] = answer[name]
        return reply.status, answer.get("sdk_error_code") or 0

    def play(self, name):
        """Send a whole recording; tell which requests were answered in another way."""
        differ = []
        for line in recorded(name):
            fault = line.get("injected_fault")
            if fault is not None:
                if fault.get("after_apply"):
                    self.send(line)
                continue
            expected = (line["response"]["status"], line["response"]["body"].get("sdk_error_code"))
            answer = self.send(line)
            if answer != (expected[0], expected[1] or 0):
                differ.append((line["n"], line["request"]["path"], expected, answer))
        return differ

    def _content(self, body, headers):
        if body is None:
            return b""
        if "multipart" in body:
            boundary = headers["content-type"].partition("boundary=")[2]
            return b"".join(_parts(boundary, body["multipart"]))
        return self.ids.translate(json.dumps(body)).encode()


def _parts(boundary, parts):
    for part in parts:
        filename = f'; filename="{part["filename"]}"' if part["filename"] else ""
        yield f"--{boundary}\r\n".encode()
        yield f'Content-Disposition: form-data; name="{part["name"]}"{filename}\r\n\r\n'.encode()
        yield (part["text"] or "").encode() + b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def replayed(server, *names):
    """Play recordings, one after the other, with those that they go on from."""
    replay = Replay(server)
    for name in names:
        for each in (*_AFTER.get(name, ()), name):
            assert replay.play(each) == []
    return replay
