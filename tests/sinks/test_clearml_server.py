"""The stand-in for ClearML's servers takes what the real client sends, and nothing else."""

import copy

import pytest

from tests.servers._recordings import without
from tests.servers.clearml import StandIn
from tests.servers.clearml_fields import CALLS, EVENTS
from tests.servers.clearml_replay import NAMES, Replay, call_of, requests_of


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
            yield key, [without(event, key) for event in body]
        yield "+", [{**event, "spurious": 1} for event in body]
    elif call_of(request) in CALLS:
        for key in CALLS[call_of(request)][0]:
            yield key, without(body, key)
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
                reply = server.answer(
                    request["method"], request["path"], request["headers"], content
                )
                assert reply.status == 400, (request["seq"], key)
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
            reply = server.answer(request["method"], request["path"], given, content)
            assert reply.status == 401
