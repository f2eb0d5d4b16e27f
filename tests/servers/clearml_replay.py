"""Sends recorded requests of ClearML's own client to the stand-in."""

import json
from functools import partial

from tests.servers import _recordings

NAMES = _recordings.names_of("clearml")
requests_of = partial(_recordings.load, "clearml")


def call_of(request):
    """Which call it is."""
    return request["path"].rpartition("/")[2]


class Replay:
    """Sends recorded requests with the ids that this server gave."""

    def __init__(self, server):
        self.server = server
        self.ids = _recordings.Ids()

    def send(self, request, body=None):
        """Tell the status and what the stand-in answers; remember ids."""
        self._press(request)
        content = self.content(request, request.get("body") if body is None else body)
        reply = self.server.answer(request["method"], request["path"], request["headers"], content)
        answer = json.loads(reply.body)
        if reply.status == 200 and "id" in request.get("data", {}):
            self.ids[request["data"]["id"]] = answer["data"]["id"]
        return reply.status, answer

    def content(self, request, body):
        """The body as it is sent."""
        if "parts" in request:
            (part,) = request["parts"]
            head = self.ids.translate(part["head"])
            data = b"x" * part["bytes"]
            return b"--BOUNDARY\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n--BOUNDARY--\r\n"
        if isinstance(body, list):
            text = "".join(f"{json.dumps(each)}\n" for each in body)
        else:
            text = json.dumps(body)
        return self.ids.translate(text).encode()

    def _press(self, request):
        """Do what somebody did in the browser, which only the answers show."""
        for shown in request.get("data", {}).get("tasks", []):
            task = self.server.tasks[self.ids.get(shown["id"], shown["id"])]
            task.fields |= {key: each for key, each in shown.items() if key != "id"}
