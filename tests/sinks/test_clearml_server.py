"""The stand-in for ClearML's servers takes what the real client sends, and nothing else."""

import copy
import json
from pathlib import Path

import pytest

from tests.servers.clearml import StandIn
from tests.servers.clearml_fields import CALLS, EVENTS

RECORDINGS = Path(__file__).parents[1] / "servers" / "recordings" / "clearml"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
IDS = ("id", "task", "model", "project")


def requests_of(name):
    """The requests of a recording, in order."""
    lines = (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def call_of(request):
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
        status, answer, _ = self.server.answer(
            request["method"], request["path"], request["headers"], content
        )
        answer = json.loads(answer)
        if status == 200 and "id" in request.get("data", {}):
            self.ids[request["data"]["id"]] = answer["data"]["id"]
        return status, answer

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


@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_are_answered_alike(name):
    """The same status and code for each request, in order."""
    server = StandIn()
    replay = Replay(server)
    differ = []
    with server:
        for request in requests_of(name):
            status, answer = replay.send(request)
            code = answer["meta"]["result_subcode"] if isinstance(answer, dict) else None
            if (status, code) != (request["status"], request.get("subcode")):
                differ.append((request["seq"], request["path"], status, answer))

    assert differ == []
    assert len(server.requests) > 10


def wrong(request):
    """A request with each required field removed in turn, and with one of a wrong name."""
    body = request.get("body")
    if isinstance(body, list):
        for key in EVENTS[body[0]["type"]][0]:
            yield (
                key,
                [{name: each for name, each in event.items() if name != key} for event in body],
            )
        yield "+", [{**event, "spurious": 1} for event in body]
    elif call_of(request) in CALLS:
        for key in CALLS[call_of(request)][0]:
            yield key, {name: each for name, each in body.items() if name != key}
        yield "+", {**body, "spurious": 1}


@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_with_a_fault_are_refused(name):
    """Nothing of them is stored."""
    server = StandIn()
    replay = Replay(server)
    checked = 0
    with server:
        for request in requests_of(name):
            for key, body in wrong(request):
                before = copy.deepcopy((server.tasks, server.models, server.projects))
                content = replay.content(request, body)
                status, _, _ = server.answer(
                    request["method"], request["path"], request["headers"], content
                )
                assert status == 400, (request["seq"], key)
                assert (server.tasks, server.models, server.projects) == before
                checked += 1
            replay.send(request)

    assert checked > 20


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
def test_nobody_else_is_let_in(headers):
    """A token that it gave is asked for by each call, and the keys by the login."""
    with StandIn() as server:
        for request in requests_of("sdk_2.1.12_full_run"):
            content = Replay(server).content(request, request.get("body"))
            given = {**request["headers"], "authorization": "", **headers}
            assert server.answer(request["method"], request["path"], given, content)[0] == 401
