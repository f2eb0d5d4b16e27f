"""The stand-in for an MLflow server answers recorded requests as the real servers did."""

import json
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.servers._recordings import load, names_of
from tests.servers.mlflow import API, FILES, StandIn

CALLS = (
    *("experiments/get-by-name", "experiments/create", "experiments/delete"),
    *("runs/create", "runs/get", "runs/search", "runs/update", "runs/delete", "runs/log-batch"),
)


def known(request):
    """Whether the stand-in has this call, and the recording the whole body."""
    path = urlsplit(request["path"]).path
    body = json.dumps(request["body"])
    shortened = path.startswith(API) and len(body) < 0.8 * request["body_bytes"]
    replaced = any(word in body for word in ("_omitted", "_len", "_b64_len", "REL/PATH"))
    return not (shortened or replaced) and (
        path.removeprefix(API) in CALLS or path.startswith(FILES)
    )


class Replay:
    """Sends recorded requests with the ids that this server gave."""

    def __init__(self, server):
        self.server = server
        self.ids = {}

    def send(self, request):
        """Tell what the stand-in answers, and remember ids."""
        parts = urlsplit(request["path"])
        pairs = [(key, self.ids.get(value, value)) for key, value in parse_qsl(parts.query)]
        path = "/".join(self.ids.get(part, part) for part in parts.path.split("/"))
        body = self._translated(request["body"])
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = {name.lower(): value for name, value in request["headers"].items()}
        reply = self.server.answer(
            request["method"], f"{path}?{urlencode(pairs)}", headers, content
        )
        if reply.status == request["status"] == 200 and isinstance(request["resp"], dict):
            self._learn(request["resp"], json.loads(reply.body))
        return reply.status, reply.body

    def _translated(self, value, key=""):
        if isinstance(value, dict):
            return {name: self._translated(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._translated(each, key) for each in value]
        ids = key in ("experiment_id", "experiment_ids", "run_id", "run_uuid")
        return self.ids.get(value, value) if ids else value

    def _learn(self, recorded, ours):
        if "experiment_id" in recorded:
            self.ids[recorded["experiment_id"]] = ours["experiment_id"]
        if "run" in recorded and "info" in recorded["run"]:
            self.ids[recorded["run"]["info"]["run_uuid"]] = ours["run"]["info"]["run_id"]


@pytest.mark.parametrize("name", names_of("mlflow"))
def test_recorded_requests_are_answered_alike(name):
    """The same status and error code for each request, in order."""
    server = StandIn(old="2.2.2" in name)
    replay = Replay(server)
    checked, differ = 0, []
    with server:
        for request in filter(known, load("mlflow", name)):
            status, answer = replay.send(request)
            code = request["resp"].get("error_code") if isinstance(request["resp"], dict) else None
            ours = json.loads(answer).get("error_code") if answer.startswith(b"{") else None
            checked += 1
            if (status, ours) != (request["status"], code):
                differ.append((request["seq"], request["status"], code, status, answer[:200]))

    assert differ == []
    assert checked > 10
