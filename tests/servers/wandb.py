"""A strict stand-in for the W&B server: what the real one refuses or garbles, it refuses.

Written from recordings of W&B's own client, which `tests/sinks/test_wandb_server.py` replays
against it. It makes ids and addresses the way the recordings' server did, so that a recording can
be sent as it is.
"""

import base64
import hashlib
import json
import re
import time
from urllib.parse import unquote

from sinks.testing import Reply
from tests.servers import _tracker
from tests.servers._tracker import encoded
from tests.servers.wandb_runs import Run, identifier

KEY = "0123456789abcdef0123456789abcdef01234567"

_UPSERT = {
    *("id", "name", "project", "entity", "groupName", "description", "displayName", "notes"),
    *("commit", "config", "host", "debug", "program", "repo", "jobType", "state", "sweep"),
    *("tags", "summaryMetrics"),
}
_ALERT = {
    *("entityName", "projectName", "runName", "title", "text", "severity", "waitDuration"),
}
_MANIFEST = {
    *("artifactID", "baseArtifactID", "name", "digest", "entityName", "projectName", "runName"),
    *("manifestType", "includeUpload"),
}
_COMPLETE = {
    *("completeMultipartAction", "completedParts", "artifactID", "storagePath", "uploadID"),
}
_ARGUMENTS = {
    "UpsertBucket": (_UPSERT, {"name", "project"}),
    "RunResumeStatus": ({"project", "entity", "name"}, {"name", "project"}),
    "RunStoppedStatus": (
        {"projectName", "entityName", "runId"},
        {"projectName", "entityName", "runId"},
    ),
    "Viewer": (set(), set()),
    "ServerFeaturesQuery": (set(), set()),
    "OrganizationCoreWeaveOrganizationID": ({"entityName"}, {"entityName"}),
    "ArtifactType": ({"entity", "project", "name"}, {"name"}),
    "CreateRunFiles": (
        {"entity", "project", "run", "files"},
        {"entity", "project", "run", "files"},
    ),
    "NotifyScriptableRunAlert": (_ALERT, _ALERT - {"severity", "waitDuration"}),
    "CreateArtifact": ({"input"}, {"input"}),
    "CreateArtifactManifest": (_MANIFEST, _MANIFEST - {"baseArtifactID"}),
    "CreateArtifactFiles": ({"input"}, {"input"}),
    "CommitArtifact": ({"artifactID"}, {"artifactID"}),
    "CompleteMultipartUploadArtifact": (_COMPLETE, _COMPLETE),
}
_ARTIFACT = {
    *("entityName", "projectName", "runName", "artifactTypeName", "artifactCollectionName"),
    *("digest", "digestAlgorithm", "aliases", "enableDigestDeduplication"),
    *("clientID", "sequenceClientID"),
}
_ARTIFACT_OPTIONAL = {
    *("artifactCollectionNames", "clientMutationId", "description", "distributedID"),
    *("historyStep", "labels", "metadata", "storageRegion", "ttlDurationSeconds"),
}
_FILE = {"artifactID", "artifactManifestID", "md5", "name"}
_FILE_OPTIONAL = {"mimetype", "uploadPartsInput"}


class Refused(_tracker.Refused):
    """In W&B's words."""

    def __init__(self, status, message="scripted", headers=None):
        super().__init__(status, {"error": message}, message, headers)


def check(fine, message):
    """Refuse a request unless it is fine."""
    if not fine:
        raise Refused(400, message)


class StandIn(_tracker.TrackerServer):
    """The server; its calls are the operations, "file_stream" and "storage".

    Attributes:
        runs: By entity, project and id.
        artifacts: In the order of their making.
        stopped: Whether somebody has pressed the stop button.
        refuses: A text; requests to the file stream that hold it are answered 400.
        quota: How many calls are taken in so many seconds, and how many requests to file
            streams; one more is answered 429.
    """

    methods = frozenset({"GET", "POST", "PUT"})
    refusal = Refused

    def __init__(self, *, key=KEY, quota=None):
        super().__init__()
        self.authorization = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
        self.runs = {}
        self.artifacts = []
        self.stopped = False
        self.refuses = None
        self.quota = quota
        self._windows = {}
        self._promised = {}
        self._uploads = {}

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    def read(self, request):
        if request.path.startswith("/storage/"):
            return "storage", request.content
        check(request.method == "POST", "only POST is served here")
        return _decoded(request)

    def apply(self, request, call, body):
        if call == "storage":
            return self._put(unquote(request.path), body, request.headers)
        told = self._counted(call)
        return Reply(200, encoded(self._called(request, call, body)), told)

    def _counted(self, call):
        """What is told of the quota, once a call has taken its part."""
        if self.quota is None:
            return {}
        most, seconds = self.quota
        now = time.monotonic()
        kind = call == "file_stream"
        full_again, taken = self._windows.get(kind, (0.0, 0))
        if now >= full_again:
            full_again, taken = now + seconds, 0
        told = {"ratelimit-remaining": "0", "ratelimit-reset": f"{full_again - now + 0.001:.3f}"}
        if taken == most:
            raise Refused(429, "too many calls", told)
        self._windows[kind] = full_again, taken + 1
        return told | {"ratelimit-remaining": str(most - taken - 1)}

    def _called(self, request, call, body):
        path, headers = unquote(request.path), request.headers
        if headers.get("authorization") != self.authorization:
            raise Refused(401, "user is not logged in")
        check(headers.get("content-type") == "application/json", "the body must be JSON")
        if call == "file_stream":
            check(self.refuses is None or self.refuses not in json.dumps(body), "a bad line")
            entity, project, run_id = path.split("/")[2:5]
            self._run(entity, project, run_id).stream(body)
            return {"exitcode": None, "limits": {}, **({"stopped": True} if self.stopped else {})}
        given = {name: each for name, each in body.items() if each is not None}
        return {"data": getattr(self, f"_{call}")(given)}

    def _run(self, entity, project, run_id):
        run = self.runs.get((entity, project, run_id))
        if run is None:
            raise Refused(404, f"run {entity}/{project}/{run_id} not found")
        return run

    def _UpsertBucket(self, given):  # noqa: N802 - the protocol's name
        key = (given.get("entity", "fake-entity"), given["project"], given["name"])
        check(re.fullmatch(r"[^:;,#?/'\s]{1,128}", given["name"]), "invalid run id")
        check(re.fullmatch(r"[^/\\#?%:]{1,128}", given["project"]), "invalid project name")
        inserted = key not in self.runs
        run = self.runs.setdefault(key, Run(*key))
        check(given.get("id", run.id) == run.id, "this id belongs to another run")
        run.update(given)
        bucket = run.described() | {"historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _RunResumeStatus(self, given):  # noqa: N802
        entity = given.get("entity", "fake-entity")
        run = self.runs.get((entity, given["project"], given["name"]))
        bucket = None if run is None else run.resumable()
        project = {"id": identifier("Project:123"), "name": given["project"]}
        owner = {"id": identifier("Entity:1"), "name": entity}
        return {"model": {**project, "entity": owner, "bucket": bucket}}

    def _RunStoppedStatus(self, _given):  # noqa: N802
        return {"project": {"run": {"stopped": self.stopped}}}

    def _Viewer(self, _given):  # noqa: N802
        return {"viewer": {"id": identifier("User:1"), "entity": "fake-entity", "username": "me"}}

    def _ServerFeaturesQuery(self, _given):  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _given):  # noqa: N802
        return {"entity": {"organization": None}}

    def _ArtifactType(self, _given):  # noqa: N802
        return {"project": {"artifact": None}}

    def _CreateRunFiles(self, given):  # noqa: N802
        run = self._run(given["entity"], given["project"], given["run"])
        files = []
        for name in given["files"]:
            check(name and ".." not in name.split("/"), "invalid file name")
            path = f"/storage/run/{run.entity}/{run.project}/{run.name}/{name}"
            self._promised[path] = lambda body, name=name: run.files.__setitem__(name, body)
            files.append({"name": name, "uploadUrl": self.url + path})
        return {"createRunFiles": {"runID": run.name, "uploadHeaders": [], "files": files}}

    def _NotifyScriptableRunAlert(self, given):  # noqa: N802
        run = self._run(given["entityName"], given["projectName"], given["runName"])
        check(given.get("severity", "INFO") in ("INFO", "WARN", "ERROR"), "unknown severity")
        run.alerts.append((given["title"], given["text"], given.get("severity", "INFO")))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _CreateArtifact(self, given):  # noqa: N802
        asked = {name: each for name, each in given["input"].items() if each is not None}
        _exactly(asked, _ARTIFACT, _ARTIFACT_OPTIONAL)
        check(asked["digestAlgorithm"] == "MANIFEST_MD5", "unknown digest algorithm")
        self._run(asked["entityName"], asked["projectName"], asked["runName"])
        name = asked["artifactCollectionName"]
        check(re.fullmatch(r"[\w.\-]{1,128}", name), "invalid artifact name")
        names = [each["alias"] for each in asked["aliases"]]
        check(all(re.fullmatch(r"[^/:]{1,128}", each) for each in names), "invalid alias")
        ours = [each for each in self.artifacts if each["name"] == name]
        committed = [each for each in ours if each["state"] == "COMMITTED"]
        found = next((each for each in ours if each["digest"] == asked["digest"]), None)
        if found is None:
            number = identifier(f"Artifact:{1000 + len(self.artifacts)}")
            found = {"id": number, "name": name, "digest": asked["digest"], "state": "PENDING"}
            found |= {"type": asked["artifactTypeName"], "aliases": set(), "files": {}, "sums": {}}
            found["metadata"] = json.loads(asked.get("metadata", "{}"))
            self.artifacts.append(found)
        for each in ours:
            each["aliases"] -= set(names)
        found["aliases"] |= set(names)
        latest = {"id": committed[-1]["id"]} if committed else None
        shown = {"id": found["id"], "state": found["state"]}
        shown["artifactSequence"] = {"latestArtifact": latest}
        return {"createArtifact": {"artifact": shown}}

    def _artifact(self, number):
        found = next((each for each in self.artifacts if each["id"] == number), None)
        check(found is not None, "artifact not found")
        return found

    def _CreateArtifactManifest(self, given):  # noqa: N802
        artifact = self._artifact(given["artifactID"])
        check(given["name"] == "wandb_manifest.json", "unknown manifest")
        check(bool(given["digest"]) == given["includeUpload"], "a digest comes with its upload")
        file = {"id": identifier("File:1")}
        if given["includeUpload"]:
            path = f"/storage/manifest/{artifact['id']}"

            def store(body):
                check(_md5(body) == given["digest"], "the manifest has another digest")
                artifact["manifest"] = json.loads(body)

            self._promised[path] = store
            file |= {"uploadUrl": self.url + path, "uploadHeaders": []}
        manifest = {"id": _manifest_id(artifact), "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, given):  # noqa: N802
        asked = given["input"]
        check(asked.get("storageLayout") == "V2", "unknown storage layout")
        nodes = []
        for each in asked["artifactFiles"]:
            given_file = {name: value for name, value in each.items() if value is not None}
            _exactly(given_file, _FILE, _FILE_OPTIONAL)
            artifact = self._artifact(each["artifactID"])
            manifest = _manifest_id(artifact)
            check(each["artifactManifestID"] == manifest, "unknown manifest")
            name = each["name"]
            path = f"/storage/artifact/{artifact['id']}/{name}"

            def store(body, sums=artifact["sums"], files=artifact["files"], each=each):
                check(_md5(body) == each["md5"], f"{each['name']} has another md5")
                sums[each["name"]] = each["md5"]
                files[each["name"]] = body

            self._promised[path] = store
            there = artifact["sums"].get(name) == each["md5"]
            headers = [f"Content-MD5:{each['md5']}", "Content-Type:application/octet-stream"]
            node = {"storagePath": f"wandb_artifacts/{name}", "uploadHeaders": headers}
            node |= {"uploadUrl": None if there else self.url + path, "uploadMultipartUrls": None}
            if given_file.get("uploadPartsInput") and not there:
                node["uploadMultipartUrls"] = self._in_parts(given_file, path, store)
            nodes.append({"node": {**node, "artifact": {"id": artifact["id"]}, "name": name}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _in_parts(self, file, path, store):
        """Addresses for the parts of a file, which are put together when all are there."""
        upload = identifier(f"Upload:{path}:{len(self.requests)}")
        parts = self._uploads[upload] = {"store": store, "bodies": {}}
        urls = []
        for number, each in enumerate(file["uploadPartsInput"], start=1):
            check(each.keys() == {"partNumber", "hexMD5"}, "a part has a number and an MD5")
            check(each["partNumber"] == number, "parts are numbered from 1 on")
            place = f"{path}/parts/{upload}/{number}"

            def keep(body, number=number, md5=each["hexMD5"]):
                check(hashlib.md5(body).hexdigest() == md5, "the part has another MD5")  # noqa: S324
                parts["bodies"][number] = body

            self._promised[place] = keep
            urls.append({"partNumber": number, "uploadUrl": self.url + place})
        return {"uploadID": upload, "uploadUrlParts": urls}

    def _CompleteMultipartUploadArtifact(self, given):  # noqa: N802
        check(given["completeMultipartAction"] == "Complete", "unknown action")
        parts = self._uploads.get(given["uploadID"])
        check(parts is not None, "unknown upload")
        bodies = parts["bodies"]
        tags = [{"partNumber": n, "hexMD5": _tag(bodies[n])} for n in sorted(bodies)]
        check(given["completedParts"] == tags, "these are not the parts that were uploaded")
        parts["store"](b"".join(bodies[n] for n in sorted(bodies)))
        return {"completeMultipartUploadArtifact": {"digest": None}}

    def _CommitArtifact(self, given):  # noqa: N802
        artifact = self._artifact(given["artifactID"])
        contents = artifact.get("manifest", {}).get("contents")
        check(contents is not None, "the manifest was not uploaded")
        for name, entry in contents.items():
            check(artifact["sums"].get(name) == entry["digest"], f"{name} was not uploaded")
            check(len(artifact["files"][name]) == entry["size"], f"{name} has another size")
        lines = "".join(f"{name}:{contents[name]['digest']}\n" for name in sorted(contents))
        digest = hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()  # noqa: S324
        check(digest == artifact["digest"], "the artifact has another digest")
        artifact["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact["id"], "digest": digest}}}

    def _put(self, path, content, headers):
        check("authorization" not in headers, "storage must not be shown the key")
        store = self._promised.get(path)
        if store is None:
            raise Refused(403, "this address was not handed out")
        check(headers.get("content-md5", _md5(content)) == _md5(content), "another md5")
        store(content)
        return Reply(200, b"", {"etag": _tag(content)})


def _exactly(given, required, optional):
    missing, unknown = required - given.keys(), given.keys() - required - optional
    check(not missing and not unknown, f"missing {sorted(missing)}, unknown {sorted(unknown)}")


def _manifest_id(artifact):
    return identifier(f"Manifest:{base64.b64decode(artifact['id']).decode()}")


def _tag(content):
    """What storage calls a content: quoted, as HTTP's entity tags are."""
    return f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324


def _md5(content):
    return base64.b64encode(hashlib.md5(content).digest()).decode()  # noqa: S324 - the protocol's


def _decoded(request):
    """The name of a call and what it sends."""
    path = unquote(request.path)
    try:
        body = json.loads(request.content)
    except ValueError:
        raise Refused(400, "the body is no JSON") from None
    if re.fullmatch(r"/files/[^/]+/[^/]+/[^/]+/file_stream", path):
        return "file_stream", body
    if path != "/graphql":
        raise Refused(404, "not found")
    _exactly(body, {"query", "operationName"}, {"variables"})
    named = re.match(r"\s*(?:query|mutation) (\w+)", body["query"])
    check(named is not None and body["operationName"] in (named[1], ""), "another operation")
    call, variables = named[1], body.get("variables", {})
    check(call in _ARGUMENTS, f"unknown operation {call}")
    known, required = _ARGUMENTS[call]
    declared = dict(re.findall(r"\$(\w+)\s*:\s*([^,)=]+)", body["query"].partition("{")[0]))
    check(variables.keys() <= declared.keys() <= known, "unknown variables")
    for name, kind in declared.items():
        needed = kind.strip().endswith("!") or name in required
        check(not needed or variables.get(name) is not None, f"${name} is missing")
    check(required <= declared.keys(), "variables are missing")
    return call, variables
