"""A stand-in for an Azure ML workspace: MLflow's interface, tokens of jobs, and its storage.

It takes the requests of azureml-mlflow 1.62 (recordings/azureml) and refuses what lacks a part of
them; `tests/sinks/test_azureml_server.py` checks both. Limits are the tightest that are told of.
"""

import base64
import json
import re
import time
from datetime import UTC, datetime
from urllib.parse import unquote

from sinks.testing import Reply
from tests.servers import _tracker, mlflow
from tests.servers.mlflow import Refused, Run, bad

SCOPE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/fake-rg"
    "/providers/Microsoft.MachineLearningServices/workspaces/fake-ws"
)
HISTORY = f"/history/v1.0{SCOPE}/"
TOKEN = "FAKE.JWT.TOKEN"  # noqa: S105 - of no server
LIMITS = {"metrics": 200, "params": 200, "tag": 1000}


def token(seconds, name="a"):
    """A token that ends so many seconds from now, as Azure's do: JSON in the middle of it."""
    parts = ({"alg": "none"}, {"exp": time.time() + seconds, "jti": name})
    coded = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in parts]
    return ".".join([each.rstrip("=") for each in coded] + ["c2lnbmVk"])


class Storage(_tracker.TrackerServer):
    """The workspace's storage, at an address of its own, which wants no token.

    Attributes:
        blobs: What is stored, by path.
    """

    methods = frozenset({"PUT"})

    def __init__(self, *, certificate=None):
        super().__init__(certificate=certificate)
        self.blobs = {}
        self.blocks = {}

    def read(self, request):
        return "blob", request.query

    def apply(self, request, call, body):
        """Put Blob, Put Block and Put Block List, with the signature of the address."""
        del call
        path, headers = unquote(request.path.removeprefix("/blob/")), request.headers
        allowed = body.get("sig") == "fake" and "authorization" not in headers
        if not allowed or not re.fullmatch(r"\d{4}-\d\d-\d\d", headers.get("x-ms-version", "")):
            raise _tracker.Refused(403, b"AuthenticationFailed")
        if "comp" not in body:
            if headers.get("x-ms-blob-type") != "BlockBlob":
                raise _tracker.Refused(400, b"MissingRequiredHeader")
            self.blobs[path] = request.content
        elif body["comp"] == "block":
            self.blocks[path, body["blockid"]] = request.content
        else:
            names = re.findall(r"<Latest>([^<]+)</Latest>", request.content.decode())
            self.blobs[path] = b"".join(self.blocks[path, name] for name in names)
        return Reply(201, b"")


class StandIn(mlflow.StandIn):
    """A workspace at `tracking_uri`, with its storage beside it.

    Attributes:
        storage: The storage.
        tokens: Those that are let in.
        renewed: Tokens that are given out next; without one a request for one is refused.
        job: The run that the platform begins and ends, if there is one.
    """

    def __init__(self, *, certificate=None):
        super().__init__(certificate=certificate)
        self.storage = Storage(certificate=certificate)
        self.tokens = {TOKEN}
        self.renewed = []
        self.job = None

    @property
    def tracking_uri(self):
        """Where the sink finds the workspace; a real one is behind TLS, at azureml://."""
        return f"{self.url}/mlflow/v1.0{SCOPE}"

    def __enter__(self):
        self.storage.__enter__()
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self.storage.__exit__()

    def add_job(self, run_id, experiment="azexp"):
        """Begin a run as the platform does, which owns it."""
        number = str(len(self.experiments))
        self.experiments[number] = {"name": experiment, "lifecycle_stage": "active"}
        info = {"run_id": run_id, "run_uuid": run_id, "experiment_id": number, "status": "RUNNING"}
        info |= {"lifecycle_stage": "active", "start_time": 0}
        info["artifact_uri"] = self._artifacts(experiment, run_id)
        self.runs[run_id] = Run(info)
        self.job = run_id
        return number

    def answer(self, method, target, headers, content):
        """MLflow below one path, tokens and places of files below another."""
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Reply(401, b'{"error": {"code": "UserError", "message": "Unauthorized"}}')
        prefix = f"/mlflow/v2.0{SCOPE}"
        if not target.startswith((f"{prefix}/api/", HISTORY)):
            return Reply(404, b"")
        return super().answer(method, target.removeprefix(prefix), headers, content)

    def read(self, request):
        if request.path.startswith(HISTORY):
            return request.path, request.content
        return super().read(request)

    def apply(self, request, call, body):
        if request.path.startswith(HISTORY):
            return self._history(request.method, call.removeprefix(HISTORY), body)
        return super().apply(request, call, body)

    def _history(self, method, path, content):
        found = re.fullmatch(r"(experiments|experimentids)/([^/]+)/runs/([^/]+)/(.+)", path)
        if found is None:
            raise Refused(404)
        run = self.runs.get(unquote(found[3]))
        if run is None or unquote(found[2]) not in self._names(run, found[1]):
            raise Refused(404)
        if (method, found[4]) == ("GET", "token") and self.renewed:
            return self._token()
        if (method, found[4]) == ("GET", "artifacts"):
            origin = {"origin": "ExperimentRun", "container": f"dcid.{found[3]}"}
            return {"value": [{**origin, "path": path} for path in self.files]}
        if (method, found[4]) == ("POST", "artifacts/batch/metadata"):
            return self._places(json.loads(content))
        raise Refused(404)

    def _names(self, run, kind):
        number = run.info["experiment_id"]
        return (number,) if kind == "experimentids" else (self.experiments[number]["name"],)

    def _token(self):
        text, seconds = self.renewed.pop(0)
        self.tokens = {text}
        until = datetime.fromtimestamp(time.time() + seconds, UTC)
        return {"token": text, "expiryTimeUtc": until.isoformat()}

    def _places(self, body):
        if body.keys() != {"paths"} or not 0 < len(body["paths"]) <= 100:
            raise bad("paths")
        if any(each.keys() != {"path"} for each in body["paths"]):
            raise bad("path")
        paths = [each["path"] for each in body["paths"]]
        there = [path for path in paths if path in self.files]
        conflict = {"error": {"code": "UserError", "message": "Resource Conflict: it exists"}}
        self.files |= dict.fromkeys(paths, b"")
        told = {
            path: {"path": path, "contentUri": f"{self.storage.url}/blob/{path}?sig=fake"}
            for path in paths
            if path not in there
        }
        return {"artifactContentInformation": told, "errors": dict.fromkeys(there, conflict)}

    def _artifacts(self, experiment, run_id):
        host = self.url.partition("://")[2]
        return (
            f"azureml://{host}/artifacts/v2.0{SCOPE}"
            f"/experiments/{experiment}/runs/{run_id}/artifacts"
        )

    def _create_run(self, body):
        answer = super()._create_run(body)
        info = answer["run"]["info"]
        name = self.experiments[info["experiment_id"]]["name"]
        info["artifact_uri"] = self._artifacts(name, info["run_id"])
        return answer

    def _update(self, body):
        if body["run_id"] == self.job:
            raise bad("The status of this run is the platform's.")
        return super()._update(body)

    def _log_batch(self, body):
        if len(body.get("metrics", ())) > LIMITS["metrics"]:
            raise bad("A batch may hold at most 200 metrics.")
        run = self._run(body)
        names = {each["key"] for each in body.get("params", ())}
        if len(run.params.keys() | names) > LIMITS["params"]:
            raise bad("A run may have at most 200 parameters.")
        if any(len(each["value"]) > LIMITS["tag"] for each in body.get("tags", ())):
            raise bad("A tag may have at most 1000 characters.")
        return super()._log_batch(body)
