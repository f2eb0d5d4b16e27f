"""The stand-in for DagsHub takes what DagsHub's own client sends, and nothing less."""

import json
import re

import pytest

from tests.servers._recordings import load
from tests.servers.dagshub import StandIn

EXCHANGES = load("dagshub", "sdk_0.7.3_init_and_add_dir")
UPLOADS = [each for each in EXCHANGES if each["method"] == "PUT"]


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def send(server, exchange, parts=None):
    """Send a recorded request, with other parts of its form if they are given."""
    headers, content = exchange["headers"], b""
    if exchange["body"] is not None:
        parts = exchange["body"]["_multipart"] if parts is None else parts
        content = "".join(f"--BOUNDARY{part}" for part in [*parts, "--\r\n"]).encode()
    reply = server.answer(exchange["method"], exchange["path"], headers, content)
    return reply.status, json.loads(reply.body or b"{}")


def test_recorded_requests_are_answered_alike(server):
    """The same status, and at least the recorded fields that a client needs."""
    for exchange in EXCHANGES:
        status, answer = send(server, exchange)
        assert status == exchange["status"]
        assert answer.keys() <= exchange["resp"].keys() | {"status"}

    assert sorted(server.branches["main"].files) == [
        "artifacts/checkpoint-10/config.json",
        "artifacts/checkpoint-10/model.safetensors",
        "artifacts/trainer_state.json",
    ]
    assert server.branches["main"].commits == ["Commit data points in folder outdir"] * 2


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("upload", UPLOADS, ids=["one file", "two files"])
def test_a_missing_field_is_refused(server, upload, field):
    """Each of them is one that the client sends."""
    parts = list(upload["body"]["_multipart"])
    del parts[field]

    assert send(server, upload, parts)[0] == 422
    assert server.branches["main"].files == {}


@pytest.mark.parametrize("field", range(5))
def test_a_wrong_name_is_refused(server, field):
    """A field of another name is no field of the client's."""
    parts = list(UPLOADS[0]["body"]["_multipart"])
    parts[field] = re.sub(r'name="\w+"', 'name="other"', parts[field], count=1)

    assert send(server, UPLOADS[0], parts)[0] == 422


def test_an_upload_without_files_is_refused(server):
    """There is nothing to commit."""
    assert send(server, UPLOADS[0], UPLOADS[0]["body"]["_multipart"][:5])[0] == 422


def test_nobody_gets_in_without_a_token(server):
    """Each request says whose it is."""
    for exchange in EXCHANGES:
        headers = {**exchange["headers"], "authorization": "Bearer other"}
        assert send(server, {**exchange, "headers": headers})[0] == 401


def test_a_file_is_replaced_only_on_top_of_what_is_there(server):
    """Otherwise the client is to say what it has seen."""
    send(server, UPLOADS[0])
    parts = [each.replace("x\n", "y\n") for each in UPLOADS[0]["body"]["_multipart"]]

    status, answer = send(server, UPLOADS[0], parts)
    assert (status, answer["error"]) == (422, "missing last_commit")
    _, answer = send(server, UPLOADS[0], _on_top_of("9" * 40, parts))
    assert answer["error"] == "invalid last_commit"
    assert send(server, UPLOADS[0], _on_top_of(server.branches["main"].head, parts))[0] == 200
    assert server.branches["main"].files == {"artifacts/trainer_state.json": b"y\n"}


def _on_top_of(commit, parts):
    empty = 'last_commit"\r\n\r\n'
    return [each.replace(empty, empty + commit) for each in parts]
