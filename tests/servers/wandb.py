"""A strict stand-in for the W&B server: what the real one refuses or garbles, it refuses.

Written from recordings of W&B's own client, which `tests/sinks/test_wandb_server.py` replays
against it. It makes ids and addresses the way the recordings' server did, so that a recording can
be sent as it is.
"""

import base64
import hashlib
import json
import re
import sys
import threading
import time
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

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


class Refused(Exception):  # noqa: N818 - an answer, no error of ours
    """An answer that is no 200."""

    def __init__(self, status, message, headers=None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = json.dumps({"error": message}).encode()


def check(fine, message):
    """Refuse a request unless it is fine."""
    if not fine:
        raise Refused(400, message)


class StandIn:
    """The server; `with StandIn() as server:` serves on `server.url` from a thread.

    Attributes:
        runs: By entity, project and id.
        artifacts: In the order of their making.
        requests: Calls so far: the operation, "file_stream" or "storage", and what was sent.
        headers: The headers of each.
        faults: For each call what its next requests meet: "lose" applies it and closes the
            connection, a number or `Refused` is answered instead of applying it.
        stopped: Whether somebody has pressed the stop button.
        refuses: A text; requests to the file stream that hold it are answered 400.
        before: Called with the name of each call, before it is answered.
        quota: How many calls are taken in so many seconds, and how many requests to file
            streams; one more is answered 429.
    """

    def __init__(self, *, key=KEY, quota=None):
        self.authorization = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
        self.runs = {}
        self.artifacts = []
        self.requests = []
        self.headers = []
        self.faults = defaultdict(deque)
        self.stopped = False
        self.refuses = None
        self.before = lambda _call: None
        self.quota = quota
        self._windows = {}
        self._promised = {}
        self._uploads = {}
        self._lock = threading.Lock()
        self.url = "http://127.0.0.1"

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    def calls(self, call):
        """What the requests of a call sent."""
        return [sent for name, sent in self.requests if name == call]

    def answer(self, method, target, headers, content):
        """Do what a request asks: status, body, headers, and whether to answer at all."""
        path = unquote(urlsplit(target).path)
        with self._lock:
            call, sent = "storage", content
            try:
                if not path.startswith("/storage/"):
                    check(method == "POST", "only POST is served here")
                    call, sent = _decoded(path, content)
                self.before(call)
                fault = self.faults[call].popleft() if self.faults[call] else None
                self.requests.append((call, sent))
                self.headers.append(headers)
                _raise(fault)
                more = self._counted(call)
                found = self._apply(path, call, sent, headers)
            except Refused as refusal:
                return refusal.status, refusal.body, refusal.headers, True
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        more |= {"etag": _tag(content)} if call == "storage" else {}
        return 200, body, more, fault != "lose"

    def _counted(self, call):
        """What is told of the quota, once a call has taken its part."""
        if self.quota is None or call == "storage":
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

    def _apply(self, path, call, sent, headers):
        if call == "storage":
            return self._put(path, sent, headers)
        if headers.get("authorization") != self.authorization:
            raise Refused(401, "user is not logged in")
        check(headers.get("content-type") == "application/json", "the body must be JSON")
        if call == "file_stream":
            check(self.refuses is None or self.refuses not in json.dumps(sent), "a bad line")
            entity, project, run_id = path.split("/")[2:5]
            self._run(entity, project, run_id).stream(sent)
            return {"exitcode": None, "limits": {}, **({"stopped": True} if self.stopped else {})}
        given = {name: each for name, each in sent.items() if each is not None}
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
        return b""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Be quiet about clients that were killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


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


def _raise(fault):
    if isinstance(fault, Refused):
        raise fault
    if isinstance(fault, int):
        raise Refused(fault, f"scripted {fault}")


def _decoded(path, content):
    """The name of a call and what it sends."""
    try:
        body = json.loads(content)
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


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self):
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body, more, answers = server.answer(self.command, self.path, headers, content)
            if not answers:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of http.server

        def log_message(self, *_):
            """Be quiet."""

    return Handler
