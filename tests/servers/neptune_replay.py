"""Sends recorded requests of Neptune's own client to the stand-in, with the ids that it gave."""

import json
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.neptune import Refused

RECORDINGS = Path(__file__).parent / "recordings" / "neptune"


def recorded(name):
    """The exchanges of a recording."""
    lines = (RECORDINGS / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class Replay:
    """One client's session; several of them may follow each other on a server."""

    def __init__(self, server):
        self.server = server
        self._ids = {}
        self._access = ""

    def whole(self, name):
        """Send a recording; tell what was answered otherwise than to the client."""
        return [each for exchange in recorded(name) if (each := self.differs(exchange))]

    def differs(self, exchange):
        """Send one request; what was answered otherwise, or None."""
        expected = exchange["response"]
        call = exchange["request"]["path"].rpartition("/v1/")[2]
        if expected["status"] == 0:
            self.server.faults[call].append("lose")
        elif expected["status"] >= 400:
            self.server.faults[call].append(Refused(expected["status"]))
        reply = self.send(exchange["request"])
        status = 0 if reply is None else reply.status
        found = json.loads(reply.body) if reply is not None and reply.body else None
        if status != expected["status"]:
            return exchange["i"], status, found
        if status == 200:
            wanted = (expected["body"] or {}).get("json")
            self._learn(wanted, found)
            if call == "attributes/operations" and wanted != found:
                return exchange["i"], wanted, found
        return None

    def send(self, request):
        """One request as it stands, or as a test has changed it."""
        headers = dict(request["headers"])
        if "authorization" in headers:
            headers["authorization"] = f"Bearer {self._access}"
        if "x-neptune-api-token" in headers:
            headers["x-neptune-api-token"] = self.server.token
        query = urlencode([(key, self._ids.get(value, value)) for key, value in request["query"]])
        for theirs, ours in self._ids.items():
            query = query.replace(theirs, ours)
        content = self._content(request["body"])
        return self.server.answer(request["method"], f"{request['path']}?{query}", headers, content)

    def _content(self, body):
        if body is None:
            return b""
        if "json" in body:
            text = json.dumps(body["json"])
            for theirs, ours in self._ids.items():
                text = text.replace(theirs, ours)
            return text.encode()
        return bytes(body["bytes"]["len"]) if "bytes" in body else urlencode(body["form"]).encode()

    def _learn(self, wanted, found):
        if not (isinstance(wanted, dict) and isinstance(found, dict)):
            return
        self._access = found.get("accessToken") or found.get("access_token") or self._access
        for key in ("id", "uploadId"):
            if key in wanted:
                self._ids[wanted[key]] = found[key]
