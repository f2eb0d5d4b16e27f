"""Sends recorded requests of ClearML's own client to the stand-in."""

import json
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings" / "clearml"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def requests_of(name):
    """The requests of a recording, in order."""
    lines = (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def call_of(request):
    """Which call it is."""
    return request["path"].rpartition("/")[2]


class Replay:
    """Sends recorded requests with the ids that this server gave."""

    def __init__(self, server):
        self.server = server
        self.ids = {}

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
            head = self._translated(part["head"])
            data = b"x" * part["bytes"]
            return b"--BOUNDARY\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n--BOUNDARY--\r\n"
        body = self._translated(body)
        if isinstance(body, list):
            return "".join(f"{json.dumps(each)}\n" for each in body).encode()
        return json.dumps(body).encode()

    def _press(self, request):
        """Do what somebody did in the browser, which only the answers show."""
        for shown in request.get("data", {}).get("tasks", []):
            task = self.server.tasks[self.ids.get(shown["id"], shown["id"])]
            task.fields |= {key: each for key, each in shown.items() if key != "id"}

    def _translated(self, value):
        if isinstance(value, dict):
            return {key: self._translated(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._translated(each) for each in value]
        if isinstance(value, str):
            for theirs, ours in self.ids.items():
                value = value.replace(theirs, f"\0{ours}")
            return value.replace("\0", "")
        return value
