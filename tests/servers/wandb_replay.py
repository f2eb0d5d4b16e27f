"""Sends the recorded requests of W&B's own client to the stand-in."""

import base64
import copy
import hashlib
import json
import re

from tests.servers import _recordings
from tests.servers._recordings import without
from tests.servers.wandb import KEY, StandIn
from tests.servers.wandb_runs import Run

NAMES = _recordings.names_of("wandb")

_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")


def load(name):
    """The requests of a recording."""
    requests = [{**each, "recording": name} for each in _recordings.load("wandb", name)]
    manifests = [each["req"] for each in requests if "/storage/manifest/" in each["path"]]
    for request in requests:
        # Local paths in the manifests were taken out, so they have other digests now.
        if request["op"] == "CreateArtifactManifest" and request["req"]["variables"]["digest"]:
            digest = hashlib.md5(manifests.pop(0).encode()).digest()  # noqa: S324 - the protocol's
            request["req"]["variables"]["digest"] = base64.b64encode(digest).decode()
    return requests


def send(server, request):
    """Send one; the status that the stand-in answers."""
    headers = dict(request["headers"])
    if "authorization" in headers:
        pair = re.sub(r".*'(.*)'.*", r"\1", headers["authorization"])
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    body = request["req"]
    return server.answer(request["method"], request["path"], headers, _content(body)).status


def _content(body):
    if not isinstance(body, str):
        return json.dumps(body).encode()
    if body.startswith("base64:"):
        return base64.b64decode(body.removeprefix("base64:"))
    return body.encode()


def known(request):
    """Whether the stand-in has this call, and the recording what was sent.

    Weights of the recorded models were left out, so these cannot be committed.
    """
    artifact = request["op"] == "CommitArtifact" and request["recording"] == "hf_trainer"
    left_out = "content-md5" in request["headers"] and request["req"][:1] == "<"
    return request["op"] != "ArtifactByID" and not artifact and not left_out


def replayed(name):
    """A stand-in that was sent a recording, and the requests that it answered otherwise."""
    server = StandIn(key=KEY)
    requests = load(name)
    seed(server, requests)
    differ = []
    for request in filter(known, requests):
        fault = request.get("fault")
        if fault is True or request["status"] == 400:
            continue
        status = send(server, request)
        if status != (request["status"] or 200):
            differ.append((request["n"], request["op"], request["status"], status))
    return server, differ


def seed(server, requests):
    """Make the runs that were there before the recording began."""
    for request in requests:
        found = request.get("resp") or {}
        if request["op"] == "RunResumeStatus" and (bucket := _bucket(found)):
            run = _run(server, request, bucket["name"], bucket["historyLineCount"])
            for file, count, tail in (
                ("wandb-history.jsonl", "historyLineCount", "historyTail"),
                ("wandb-events.jsonl", "eventsLineCount", "eventsTail"),
                ("output.log", "logLineCount", None),
            ):
                run.lines[file] = ["{}"] * bucket[count]
                if tail and bucket[count]:
                    run.lines[file][-1:] = json.loads(bucket[tail])
            run.config = json.loads(bucket["config"])
            run.summary = json.loads(bucket["summaryMetrics"])
            return
        if request["op"] == "UpsertBucket":
            if not found["inserted"]:
                name = request["req"]["variables"]["name"]
                _run(server, request, name, found["historyLineCount"])
            return


def _bucket(answer):
    return answer["data"]["model"]["bucket"]


def _run(server, request, name, count):
    entity, project = "fake-entity", request["req"]["variables"]["project"]
    run = server.runs[entity, project, name] = Run(entity, project, name)
    run.lines["wandb-history.jsonl"] = ['{"_step":0}'] * count
    return run


def spoiled(request):
    """The same request with one thing wrong, once for each thing that can be."""
    if not isinstance(request["req"], dict):
        return
    if request["path"] == "/graphql":
        yield from _spoiled_operation(request)
    elif _STREAM.fullmatch(request["path"]):
        yield from _spoiled_stream(request)
    if "authorization" in request["headers"]:
        other = copy.deepcopy(request)
        other["headers"]["authorization"] = f"Basic base64('api:{KEY[::-1]}')"
        yield "another key", other


def _spoiled_operation(request):
    for name in ("query", "operationName"):
        yield f"no {name}", _without(request, name)
    yield "a field too many", _changed(request, more=1)
    variables = request["req"].get("variables", {})
    if request["op"] == "UpsertBucket":
        yield "no name", _changed(request, variables={**variables, "name": None})
        if variables["config"]:
            config = json.loads(variables["config"])
            config["_wandb"]["value"].pop("t")
            changed = {**variables, "config": json.dumps(config)}
            yield "no _wandb.t", _changed(request, variables=changed)
    declared = re.findall(
        r"\$(\w+)\s*:\s*[\w\[\]!]*!(?=[\s,)])", request["req"]["query"].partition("{")[0]
    )
    for name in declared:
        yield f"no ${name}", _changed(request, variables={**variables, name: None})
    yield "a variable too many", _changed(request, variables={**variables, "more": 1})


def _spoiled_stream(request):
    yield "a field too many", _changed(request, dropped=0)
    if "complete" in request["req"]:
        yield "no exitcode", _without(request, "exitcode")
    for name, chunk in request["req"].get("files", {}).items():
        files = request["req"]["files"]
        for change in (
            {"offset": chunk["offset"] + 1000},
            {"offset": None},
            {"content": []},
            {"more": 1},
        ):
            yield f"{name} with {change}", _changed(request, files={**files, name: chunk | change})
        if not name.endswith(".log") and name != "wandb-summary.json":
            for key in ("_timestamp", "_runtime", "_step" if "history" in name else "_wandb"):
                row = json.loads(chunk["content"][0])
                row.pop(key)
                other = chunk | {"content": [json.dumps(row), *chunk["content"][1:]]}
                yield f"{name} without {key}", _changed(request, files={**files, name: other})


def _changed(request, **fields):
    return {**request, "req": {**request["req"], **fields}}


def _without(request, name):
    return {**request, "req": without(request["req"], name)}
