"""The stand-in for Neptune takes what Neptune's own client sends, and nothing less."""

import copy
import json

import pytest

from tests.servers.neptune import StandIn
from tests.servers.neptune_replay import NAMES, Replay, recorded

NEPTUNE = "neptune_1.14.0_"
BEFORE = {
    f"{NEPTUNE}crash_then_sync": f"{NEPTUNE}crash",
    f"{NEPTUNE}custom_id_2": f"{NEPTUNE}custom_id_1",
    f"{NEPTUNE}resume": f"{NEPTUNE}first_part",
}
"""What has to be there before a recording."""
OPTIONAL = {"gitInfo", "customId", "organizationName", "ext"}


def prepared(name):
    """A replay on a server where everything is as when the recording began."""
    replay = Replay(StandIn(minfx=name.startswith("minfx")))
    if name in BEFORE:
        assert replay.whole(BEFORE[name]) == []
    return replay


@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_are_answered_alike(name):
    """The same status, and the same errors of single operations, in order."""
    replay = prepared(name)
    with replay.server:
        assert replay.whole(name) == []
        assert len(replay.server.requests) > 5


def less(request):
    """The request without one of the things it needs, each in turn."""
    for key in ("authorization", "x-neptune-api-token", "x-range", "content-type"):
        changed = copy.deepcopy(request)
        if changed["headers"].pop(key, None) and (
            key != "content-type" or "json" in body_of(request)
        ):
            yield key, changed
    for index, (key, _) in enumerate(request["query"]):
        if key not in OPTIONAL:
            changed = copy.deepcopy(request)
            del changed["query"][index]
            yield key, changed
    body = body_of(request).get("json")
    if isinstance(body, dict):
        for key in body.keys() - OPTIONAL:
            changed = copy.deepcopy(request)
            del changed["body"]["json"][key]
            yield key, changed
    elif body:
        yield from less_operations(request, body)


def body_of(request):
    return request["body"] or {}


def less_operations(request, operations):
    for index, operation in enumerate(operations):
        for key in operation:
            changed = copy.deepcopy(request)
            del changed["body"]["json"][index][key]
            yield f"{index}.{key}", changed
        (action,) = operation.keys() - {"path"}
        for key in operation[action]:
            changed = copy.deepcopy(request)
            del changed["body"]["json"][index][action][key]
            yield f"{index}.{action}.{key}", changed
        for key in operation[action].get("entries", [{}])[0]:
            changed = copy.deepcopy(request)
            del changed["body"]["json"][index][action]["entries"][0][key]
            yield f"{index}.{action}.entries.{key}", changed


@pytest.mark.parametrize("name", NAMES)
def test_requests_that_lack_something_are_refused(name):
    """Each header, each field of a query and of a body that the client sent, left out."""
    replay = prepared(name)
    accepted, tried = [], 0
    with replay.server:
        for exchange in recorded(name):
            if (
                exchange["response"]["status"] == 200
                and "/auth/" not in exchange["request"]["path"]
            ):
                for what, changed in less(exchange["request"]):
                    tried += 1
                    if replay.send(changed).status == 200:
                        accepted.append((exchange["i"], what))
            assert replay.differs(exchange) is None

    assert accepted == []
    assert tried > 10


def sent(replay, operations):
    """What is answered to operations on the run of a replay that is over."""
    access = next(iter(replay.server.tokens))
    headers = {"authorization": f"Bearer {access}", "content-type": "application/json"}
    reply = replay.server.answer(
        "POST",
        f"/api/leaderboard/v1/attributes/operations?experimentId={replay.server.run.id}",
        headers,
        json.dumps(operations).encode(),
    )
    return reply.status, json.loads(reply.body)


@pytest.fixture
def full():
    """A server that has been sent the whole of a run."""
    replay = prepared(f"{NEPTUNE}full")
    with replay.server:
        assert replay.whole(f"{NEPTUNE}full") == []
        yield replay


def point(value=1.0, step=3, time=1_900_000_000_000):
    return {"value": value, "step": step, "timestampMilliseconds": time}


IMAGE = {"data": "eA==", "name": None, "description": None}


@pytest.mark.parametrize(
    "operation",
    [
        {"path": "a", "assignFloat": {"value": "NaN"}},
        {"path": "a", "assignFloat": {"value": True}},
        {"path": "a", "assignInt": {"value": 2**31}},
        {"path": "a", "assignInt": {"value": 1.5}},
        {"path": "a", "assignString": {"value": "x" * 16_385}},
        {"path": "a", "assignText": {"value": "x"}},
        {"path": "a", "assignInt": {"value": 1}, "assignFloat": {"value": 1.0}},
        {"path": "a", "logFloats": {"entries": []}},
        {"path": "a", "logFloats": {"entries": [point("NaN")]}},
        {"path": "a", "logFloats": {"entries": [{**point(), "epoch": 1}]}},
        {"path": "a", "logFloats": {"entries": [point(time=1.5)]}},
        {"path": "a", "logStrings": {"entries": [point("x" * 1001)]}},
        {"path": "a", "logImages": {"entries": [point({"data": "eA==", "name": "x"})]}},
        {"path": "a", "logImages": {"entries": [point({**IMAGE, "data": "no base64"})]}},
    ],
)
def test_operations_that_make_no_sense(full, operation):
    """Wrong keys, wrong values, what is too long: nothing of the request is applied."""
    before = full.server.run.state()
    status, _ = sent(full, [{"path": "b", "assignInt": {"value": 1}}, operation])

    assert status == 400
    assert full.server.run.state() == before


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ({"path": "finetuning/train/loss", "logFloats": {"entries": [point()]}}, "increasing"),
        (
            {"path": "finetuning/train/loss", "logFloats": {"entries": [point(step=99, time=1)]}},
            "non-decreasing",
        ),
        ({"path": "finetuning/train/loss", "assignFloat": {"value": 1.0}}, "floatSeries"),
        ({"path": "sys/state", "assignString": {"value": "idle"}}, "read only"),
    ],
)
def test_operations_that_do_not_fit(full, operation, error):
    """A repeated step, a time that goes back, another type: said, and the others are applied."""
    status, errors = sent(full, [operation, {"path": "b", "assignInt": {"value": 1}}])

    assert status == 200
    assert len(errors) == 1
    assert error in errors[0]["errorDescription"]
    assert full.server.run.attributes.values["b"] == 1


def test_access_tokens_expire():
    """What was good is no longer."""
    server = StandIn(lifetime=-1.0)
    replay = Replay(server)
    with server:
        found = replay.whole(f"{NEPTUNE}crash")

    assert [status for _, status, _ in found] == [401] * len(found)
    assert found
