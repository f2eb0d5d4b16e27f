"""The stand-in for W&B takes what W&B's own client sends, and nothing that differs from it."""

import copy

import pytest

from tests.servers.wandb import StandIn
from tests.servers.wandb_replay import NAMES, known, load, replayed, seed, send, spoiled


@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_are_taken(name):
    """Each with the status that was recorded."""
    server, differ = replayed(name)

    assert differ == []
    assert len(server.requests) > 0


@pytest.mark.parametrize("name", ["artifact", "basic_finish0", "console_stats", "media", "resume"])
def test_spoiled_requests_are_refused(name):
    """A required field removed, one too many, another key, a gap in front of the lines."""
    server = StandIn()
    requests = load(name)
    seed(server, requests)
    taken, tried = [], 0
    for request in filter(known, requests):
        for what, other in spoiled(request):
            tried += 1
            if send(server, copy.deepcopy(other)) == 200:
                taken.append((request["n"], request["op"], what))
        send(server, request)

    assert taken == []
    assert tried > 50


def test_storage_takes_what_it_was_promised():
    """Neither a file nobody asked for, nor another content, nor anybody's key."""
    server = StandIn()
    for request in filter(known, load("artifact")):
        if request["method"] == "PUT":
            body = request["req"]
            md5 = request["headers"].get("content-md5")
            key = {**request["headers"], "authorization": "Basic base64('api:x')"}
            assert send(server, {**request, "path": request["path"] + "x"}) == 403
            assert send(server, {**request, "headers": key}) == 400
            assert md5 is None or send(server, {**request, "req": body + " "}) == 400
        send(server, request)

    assert [each["state"] for each in server.artifacts] == ["COMMITTED", "COMMITTED"]


def test_what_is_left_of_a_recorded_run():
    """Its rows, its summary, its configuration, and how it ended."""
    server, _ = replayed("basic_finish0")
    run = server.run

    assert [row["_step"] for row in run.history] == list(range(25))
    assert run.summary["nested"] == {"best": 7}
    assert run.values()["lr"] == 0.002
    assert (run.complete, run.exitcode) == (True, 0)
    assert run.shown["tags"] == ["a", "b"]
