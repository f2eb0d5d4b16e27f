"""The stand-in for Comet takes what its own client sent, and nothing that lacks a part of it."""

import copy
import json

import pytest

from tests.servers._comet_schemas import BODIES, ITEMS, UPLOAD
from tests.servers._recordings import without
from tests.servers.comet import KEY, StandIn
from tests.servers.comet_replay import NAMES, recorded, replayed


@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_are_answered_alike(name):
    """The same status and error code for each request, in order."""
    with StandIn() as server:
        replayed(server, name)
        assert len(server.requests) > 1


def test_the_state_is_what_the_client_logged():
    """As `online_basic` did: 25 steps, among them numbers that JSON lacks."""
    with StandIn() as server:
        replayed(server, "online_basic")

    found = server.experiment
    assert [step for step, _ in found.series("train/loss")] == list(range(25))
    assert {"NaN", "Infinity", "-Infinity"} <= {value for _, value in found.series("train/loss")}
    assert found.params["opt|name"] == "adam"
    assert found.params["layers"] == [2, 3]
    assert found.others["Name"] == "demo-run"
    assert found.tags == ["t0", "alpha", "beta"]
    assert found.files()["configs/asset.json"] == b'{"a": 1}'
    assert (found.alive, found.crashed) == (False, False)


def calls():
    """One recorded request of each call whose fields are known, with the experiment for it."""
    found = {}
    for name in ("online_basic", "hf_trainer_cometcallback", "native_full", "resume"):
        for line in recorded(name):
            request = line["request"]
            path = request["path"].partition("/clientlib/")[2] or request["path"]
            call = path.rpartition("rest/v2/")[2]
            if request["method"] == "POST" and line["response"]["status"] == 200:
                found.setdefault(call, (name, line))
    return found


CALLS = calls()


def spoilt(call):
    """Bodies of a call that lack something, or have too much."""
    body = CALLS[call][1]["request"]["body"]
    for field in BODIES[call].required:
        yield f"without {field}", without(body, field)
        yield f"{field} is an object", body | {field: {}}
    yield "with another field", body | {"surprise": 1}
    if call in ITEMS:
        name, item = ITEMS[call]
        for field in item.required:
            changed = copy.deepcopy(body)
            del changed[name][0][field]
            yield f"without {name}.{field}", changed
        yield f"without {name}", body | {name: []}
        yield f"too many {name}", body | {name: body[name][:1] * 1001}


@pytest.mark.parametrize("call", sorted(CALLS.keys() & BODIES.keys()))
def test_a_request_that_lacks_a_field_is_refused(call):
    """So are one with a field too many, of another type, and one with another key."""
    name, line = CALLS[call]
    with StandIn() as server:
        replay = replayed(server, name)
        for what, body in spoilt(call):
            if what == "additional_data is an object":
                continue
            assert replay.send(line, body=body)[0] == 400, what
        server.key = "another key"
        assert replay.send(line) == (400, 90212)


def test_an_upload_that_lacks_something_is_refused():
    """A field of its address, the file itself, or an id that is new."""
    name, line = CALLS["asset/upload"]
    query = line["request"]["query"]
    with StandIn() as server:
        replay = replayed(server, name)
        for field in UPLOAD.required:
            assert replay.send(line, query=without(query, field))[0] == 400, field
        fresh = query | {"assetId": "f" * 32}
        assert replay.send(line, query=fresh, body={"multipart": []})[0] == 400
        assert replay.send(line, query=fresh | {"surprise": "1"})[0] == 400
        assert replay.send(line, query=query) == (400, 7000005)
        assert replay.send(line, query=fresh) == (200, 0)


def test_the_key_alone_opens_it():
    """In the header too, where the body has none."""
    with StandIn() as server:
        reply = server.answer("GET", "/api/rest/v2/experiment/tags", {}, b"")

    assert (reply.status, json.loads(reply.body)["sdk_error_code"]) == (400, 90212)
    assert KEY not in reply.body.decode()
