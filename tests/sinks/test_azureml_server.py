"""The stand-in for Azure ML takes what its own client sends, and nothing less."""

import json
from urllib.parse import urlsplit

import pytest

from tests.servers._recordings import load, without
from tests.servers.azureml import StandIn

JOB = "sdk_azureml_mlflow_1.62_job_with_token_refresh"
UPLOAD = "sdk_azureml_mlflow_1.62_artifact_upload"
RUN = "0" * 31 + "1"


@pytest.fixture
def server():
    with StandIn() as server:
        server.experiments["8"] = {"name": "azexp", "lifecycle_stage": "active"}
        yield server


def exchanges(name, run_id=""):
    """What was recorded, with another run's id."""
    text = json.dumps(load("azureml", name))
    return json.loads(text.replace(RUN, run_id or RUN))


def send(server, exchange, target=None, **changed):
    """Send a recorded request: the status, and the answer's data."""
    exchange = {**exchange, **changed}
    body = exchange["body"]
    content = b"12345" if body == {"_len": 5} else json.dumps(body).encode() if body else b""
    reply = server.answer(
        exchange["method"], target or exchange["path"], exchange["headers"], content
    )
    return reply.status, json.loads(reply.body) if reply.body.startswith(b"{") else None


def begun(server):
    """The recorded job's requests behind the one that makes its run, with the run's id."""
    find, create = exchanges(JOB)[:2]
    send(server, find)
    _, answer = send(server, create)
    return answer["run"]["info"]["run_id"]


def test_a_recorded_job_is_answered_alike(server):
    """Statuses, the token, and what is known of the run at the end."""
    run_id = begun(server)
    server.renewed = [("FAKE.JWT.TOKEN", 3600)]
    for exchange in exchanges(JOB, run_id)[2:]:
        status, answer = send(server, exchange)
        assert status == exchange["status"], exchange["path"]
        if exchange["path"].endswith("/token"):
            assert answer.keys() == exchange["resp"].keys()

    assert server.run.params == {"lr": "0.1"}
    assert server.run.series("loss") == [(1, 1.0)]


def test_a_recorded_upload_is_answered_alike(server):
    """The workspace says where, the storage takes it from whoever knows the address."""
    server.add_job("fake-run")
    place, blob = exchanges(UPLOAD)
    status, answer = send(server, place)
    assert status == place["status"]
    address = answer["artifactContentInformation"]["ckpt/a.txt"]["contentUri"]
    parts = urlsplit(address)
    assert send(server.storage, blob, f"{parts.path}?{parts.query}")[0] == blob["status"]
    assert server.storage.blobs == {"ckpt/a.txt": b"12345"}


def test_nobody_gets_in_without_a_token(server):
    """Each request to the workspace shows one; the storage wants none."""
    for exchange in [*exchanges(JOB), exchanges(UPLOAD)[0]]:
        headers = {**exchange["headers"], "authorization": "Bearer other"}
        assert send(server, exchange, headers=headers)[0] == 401
    blob = exchanges(UPLOAD)[1]
    with_token = {**blob["headers"], "authorization": "Bearer FAKE.JWT.TOKEN"}
    assert send(server.storage, blob, headers=with_token)[0] == 403


@pytest.mark.parametrize("header", ["x-ms-blob-type", "x-ms-version"])
def test_the_storage_wants_its_headers(server, header):
    """As the client sends them."""
    blob = exchanges(UPLOAD)[1]
    headers = without(blob["headers"], header)
    assert send(server.storage, blob, headers=headers)[0] in (400, 403)
    assert send(server.storage, blob, "/blob/ckpt/a.txt")[0] == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"paths": []}, 400),
        ({"files": [{"path": "a"}]}, 400),
        ({"paths": [{"name": "a"}]}, 400),
        ({"paths": [{"path": str(n)} for n in range(101)]}, 400),
        ({"paths": [{"path": str(n)} for n in range(100)]}, 200),
    ],
)
def test_places_of_files(server, body, status):
    """Up to 100 paths, in the client's words."""
    server.add_job("fake-run")
    place = exchanges(UPLOAD)[0]
    content = json.dumps(body).encode()
    assert server.answer("POST", place["path"], place["headers"], content).status == status


def test_a_path_is_given_once(server):
    """What is there already is an error of its own beside the others."""
    server.add_job("fake-run")
    place = exchanges(UPLOAD)[0]
    send(server, place)
    _, answer = send(server, place)
    assert answer["errors"].keys() == {"ckpt/a.txt"}
    assert answer["artifactContentInformation"] == {}


@pytest.mark.parametrize("missing", ["key", "value", "timestamp"])
def test_a_metric_lacks_something(server, missing):
    """The whole request is refused."""
    run_id = begun(server)
    metrics = exchanges(JOB, run_id)[7]
    point = without(metrics["body"]["metrics"][0], missing)
    body = {**metrics["body"], "metrics": [point]}
    assert send(server, metrics, body=body)[0] == 400
    assert server.run.points == {}


@pytest.mark.parametrize(
    "body",
    [
        {"metrics": [{"key": f"m{n}", "value": 1, "timestamp": 1, "step": 1} for n in range(201)]},
        {"params": [{"key": f"p{n}", "value": "1"} for n in range(201)]},
        {"tags": [{"key": "t", "value": "x" * 1001}]},
    ],
    ids=["metrics", "params", "tag"],
)
def test_limits(server, body):
    """What users were told, and Azure's table of limits."""
    run_id = begun(server)
    request = exchanges(JOB, run_id)[6]
    assert send(server, request, body={"run_id": run_id, **body})[0] == 400


def test_the_status_of_a_job_is_the_platforms(server):
    """Its client never sends one, so nobody knows what would become of it."""
    server.add_job("fake-run")
    request = {**exchanges(JOB)[6], "body": {"run_id": "fake-run", "status": "FINISHED"}}
    path = request["path"].replace("log-batch", "update")
    assert send(server, request, path)[0] == 400
