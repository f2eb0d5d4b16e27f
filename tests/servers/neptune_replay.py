"""Sends recorded requests of Neptune's own client to the stand-in, with the ids that it gave."""

import json
from functools import partial
from urllib.parse import urlencode

from tests.servers import _recordings
from tests.servers.neptune import Refused

NAMES = _recordings.names_of("neptune")
recorded = partial(_recordings.load, "neptune")


class Replay:
    """One client's session; several of them may follow each other on a server."""

    def __init__(self, server):
        self.server = server
        self._ids = _recordings.Ids()
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
        query = self._ids.translate(urlencode([*map(tuple, request["query"])]))
        content = self._content(request["body"])
        return self.server.answer(request["method"], f"{request['path']}?{query}", headers, content)

    def _content(self, body):
        if body is None:
            return b""
        if "json" in body:
            return self._ids.translate(json.dumps(body["json"])).encode()
        return bytes(body["bytes"]["len"]) if "bytes" in body else urlencode(body["form"]).encode()

    def _learn(self, wanted, found):
        if not (isinstance(wanted, dict) and isinstance(found, dict)):
            return
        self._access = found.get("accessToken") or found.get("access_token") or self._access
        for key in ("id", "uploadId"):
            if key in wanted:
                self._ids[wanted[key]] = found[key]
