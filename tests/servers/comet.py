"""A strict stand-in for Comet: it takes what its own client sends and nothing else.

Written from recordings of comet_ml 3.58.8, which `tests/sinks/test_comet_server.py` replays against
it. Nobody has compared it with the hosted service. Metrics are appended, as there: what is sent
twice is there twice.
"""

import json
import re
import uuid
from dataclasses import dataclass, field

from tests.servers._comet_bodies import Refused, decoded, parts_of
from tests.servers._comet_reads import PROJECT, read
from tests.servers._comet_schemas import (
    BODIES,
    ITEMS,
    NAMED_NUMBERS,
    PARTS,
    PICTURE,
    PUBLIC_UPLOAD,
    UPLOAD,
    complaint,
)
from tests.servers._tracker import TrackerServer

KEY = "FAKEFAKEFAKEFAKEFAKEFAKE1"

_ROOTS = re.compile(r"/(?:api/rest/v2|clientlib/rest/v2|clientlib)/")
_EXPERIMENT = re.compile(r"[0-9A-Za-z]{32,50}")
_OPEN = {
    "isAlive/ver": {"version": "4.40.0", "msg": "Healthy Server"},
    "health/ping": {"msg": "pong"},
}
"""What it tells everybody."""
_UPLOADS = {
    "asset/upload": UPLOAD,
    "visualizations/upload": PICTURE,
    "write/experiment/upload-asset": PUBLIC_UPLOAD,
}
"""By call: the fields of its address."""
_MOST = 1000
_LONGEST_NAME = 100
_LONGEST_TEXT = 1000


@dataclass
class Experiment:
    """An experiment as the service would show it.

    Attributes:
        points: Name, step, epoch, value, context and time of each metric, in order of arrival.
        lines: Console lines by their offset.
        assets: By their id: the query, the file and its metadata.
        calls: Remote calls that wait for the client.
    """

    key: str
    project: str | None
    workspace: str | None
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    points: list = field(default_factory=list)
    params: dict = field(default_factory=dict)
    others: dict = field(default_factory=dict)
    tags: list = field(default_factory=list)
    lines: dict = field(default_factory=dict)
    assets: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    graph: str | None = None
    alive: bool = False
    crashed: bool = False
    error: str | None = None
    throttled: bool = False
    calls: list = field(default_factory=list)
    beats: int = 0

    def series(self, name):
        """Steps and values of a metric, as they arrived."""
        return [(step, value) for each, step, _, value, _, _ in self.points if each == name]

    def files(self):
        """The content of each asset by its name."""
        return {
            query.get("fileName") or query["figName"]: content
            for query, content, _ in self.assets.values()
        }

    def press_stop(self):
        """What the stop button does."""
        self.calls.append(
            {
                "callId": uuid.uuid4().hex,
                "userName": "ada",
                "functionName": "stop",
                "cometDefined": True,
                "arguments": [],
                "createdAt": 1795226787959,
                "experimentKey": self.key,
                "projectId": PROJECT,
            }
        )


class StandIn(TrackerServer):
    """Comet's server.

    Attributes:
        key: The API key that it knows.
        beat: Milliseconds between heartbeats that it asks for.
        largest: Megabytes that an asset may have.
        storage: Where large files may go, if it offers that.
    """

    refusal = Refused

    def __init__(self, *, key=KEY, beat=10_000, largest=200, storage=None):
        super().__init__()
        self.key = key
        self.beat = beat
        self.largest = largest
        self.experiments = {}
        self.storage = storage

    @property
    def experiment(self):
        """The only experiment."""
        (experiment,) = self.experiments.values()
        return experiment

    def read(self, request):
        call = _ROOTS.sub("", request.path, count=1)
        return call, None if call in _UPLOADS else decoded(request)

    def apply(self, request, call, body):
        if call not in _OPEN:
            self._check_key(request.headers, body)
        if call in _UPLOADS:
            return self._upload(call, request.query, parts_of(request))
        if request.method == "GET":
            return self._get(call, request.query)
        if found := re.fullmatch(r"write/experiment/(\w+)/mark-not-throttled", call):
            self._experiment(found[1]).throttled = False
            return _saved()
        fields = BODIES.get(call)
        if fields is None:
            raise Refused(404, 0, f"no such call: {request.method} {call}")
        self._check(call, fields, body)
        return getattr(self, "_" + re.sub(r"\W+", "_", call))(body)

    def _check_key(self, headers, body):
        shown = {headers.get("authorization")}
        if isinstance(body, dict):
            shown |= {str(body[name]) for name in ("apiKey", "api_key") if name in body}
        if shown != {self.key}:
            raise Refused(400, 90212, "API key not registered")

    def _check(self, call, fields, body):
        wrong = complaint(fields, body)
        if wrong is None and call in ITEMS:
            name, item = ITEMS[call]
            if not 0 < len(body[name]) <= _MOST:
                wrong = f"{len(body[name])} {name}"
            for each in body[name]:
                wrong = wrong or complaint(item, each)
        if wrong is not None:
            raise Refused(400, 0, wrong)

    def _get(self, call, query):
        if call in _OPEN:
            return _OPEN[call]
        if call == "workspaces":
            return {"workspaceNames": ["ada", "team"]}
        experiment = self._experiment(query.get("experimentKey"), status=404)
        found = read(experiment, call, query) or self._asked(call, experiment)
        if found is None:
            raise Refused(404, 0, f"no such call: GET {call}")
        return found

    def _asked(self, call, experiment):
        """What a GET changes too; None if it is not known."""
        if call == "rpc/get-pending-rpcs":
            found, experiment.calls = experiment.calls, []
            return {"remoteProcedureCalls": found}
        if call == "write/experiment/set-status":
            experiment.beats += 1
            return {"isAliveBeatDurationMillis": self.beat}
        if call == "write/experiment/stop":
            experiment.press_stop()
            return {"msg": "Stop Requested", "code": 200, "sdk_error_code": 0}
        return None

    def _experiment(self, key, status=400):
        found = self.experiments.get(key)
        if found is None:
            raise Refused(status, 90211, "No such experiment")
        return found

    def _logger_add_run(self, body):
        key = body["experimentKey"]
        if not _EXPERIMENT.fullmatch(key):
            raise Refused(400, 0, "an experiment's key has 32 to 50 letters and digits")
        if key in self.experiments and not body["getOrCreateEnabled"]:
            raise Refused(400, 90999, "Experiment already exists")
        found = self.experiments.setdefault(
            key, Experiment(key, body["projectName"], body["teamName"])
        )
        return self._run(found)

    def _logger_get_run(self, body):
        if body["previousExperiment"] not in self.experiments:
            raise Refused(400, 90210, "No such experiment, or no access to it")
        return self._run(self.experiments[body["previousExperiment"]])

    def _logger_copy_steps_from_experiment(self, body):
        old = self._experiment(body["copiedExperimentKey"])
        new = Experiment(body["newExperimentKey"], old.project, old.workspace)
        new.points = [each for each in old.points if (each[1] or 0) <= body["stepToCopyTo"]]
        self.experiments[new.key] = new
        return self._run(new)

    def _run(self, experiment):
        return {
            "runId": experiment.run_id,
            "project_id": PROJECT,
            "focusUrl": f"{self.url}/fakeworkspace/fakeproject/",
            "lastOffset": max(experiment.lines, default=-1) + 1,
            "name": experiment.others.get("Name", "stub"),
            "upload_file_size_limit_in_mb": 200,
            "asset_upload_file_size_limit_in_mb": self.largest,
            "s3DirectAccessEnabled": self.storage is not None,
            "assetNameMaxLength": 500,
            "msg": None,
        }

    def _status_report_update(self, body):
        experiment = self._experiment(body["experimentKey"])
        if (body["runId"], body["projectId"]) != (experiment.run_id, PROJECT):
            raise Refused(400, 0, "this run is of another experiment")
        experiment.alive = body["is_alive"]
        experiment.beats += 1
        return {
            "is_alive_beat_duration_millis": self.beat,
            "gpu_monitor_interval_millis": 30_000,
            "cpu_monitor_interval_millis": 68_000,
            "parameter_update_interval_millis": 60_000,
            "pending_rpcs": bool(experiment.calls),
            "code": 200,
            "msg": None,
        }

    def _asset_3d_limits(self, body):
        self._experiment(body["experimentKey"])
        return {"maxPoints": 1_000_000, "maxBoxes": 250_000}

    def _tags_add_tags_to_experiment(self, body):
        return self._write_experiment_tags(body)

    def _write_experiment_tags(self, body):
        tags = self._experiment(body["experimentKey"]).tags
        tags += [each for each in body["addedTags"] if each not in tags]
        return _saved()

    def _notification_experiment(self, body):
        self._experiment(body["experiment_key"]).notes.append(body["title"])
        return _saved()

    def _batch_logger_experiment_parameter(self, body):
        params = self._experiment(body["experimentKey"]).params
        for each in body["values"]:
            _check_length("parameterName", each["parameterName"], _LONGEST_NAME)
            _check_length("parameterValue", each["parameterValue"], _LONGEST_TEXT)
        params |= {each["parameterName"]: each["parameterValue"] for each in body["values"]}
        return _saved()

    def _batch_logger_experiment_metric(self, body):
        experiment = self._experiment(body["experimentKey"])
        for each in body["values"]:
            _check_length("metricName", each["metricName"], _LONGEST_NAME)
            if isinstance(each["metricValue"], str) and each["metricValue"] not in NAMED_NUMBERS:
                raise Refused(400, 0, f"metricValue is {each['metricValue']!r}")
        experiment.points += [
            tuple(
                each[name]
                for name in ("metricName", "step", "epoch", "metricValue", "context", "timestamp")
            )
            for each in body["values"]
        ]
        return _saved()

    def _write_experiment_output(self, body):
        lines = self._experiment(body["experimentKey"]).lines
        lines |= {each["offset"]: (each["output"], each["stderr"]) for each in body["outputLines"]}
        return _saved()

    def _write_experiment_log_other(self, body):
        _check_length("key", body["key"], _LONGEST_NAME)
        _check_length("value", body["value"], _LONGEST_TEXT)
        self._experiment(body["experimentKey"]).others[body["key"]] = body["value"]
        return _saved()

    def _write_experiment_graph(self, body):
        self._experiment(body["experimentKey"]).graph = body["graph"]
        return _saved()

    def _write_experiment_update_status(self, body):
        experiment = self._experiment(body["experimentKey"])
        experiment.alive = body["isAlive"]
        experiment.crashed = body["hasCrashed"]
        experiment.error = body["error"]
        return _saved()

    def _write_experiment_create(self, body):
        made = Experiment(uuid.uuid4().hex, body["projectName"], body["workspaceName"], alive=True)
        self.experiments[made.key] = made
        link = f"{self.url}/fakeworkspace/fakeproject/{made.key}"
        return {"experimentKey": made.key, "link": link}

    def _write_experiment_parameter(self, body):
        _check_length("parameterName", body["parameterName"], _LONGEST_NAME)
        params = self._experiment(body["experimentKey"]).params
        params[body["parameterName"]] = body["parameterValue"]
        return _saved()

    def _write_experiment_metric(self, body):
        _check_length("metricName", body["metricName"], _LONGEST_NAME)
        value = body["metricValue"]
        self._experiment(body["experimentKey"]).points.append(
            (
                *(body["metricName"], body.get("step"), body.get("epoch")),
                *(value if value in NAMED_NUMBERS else float(value), None, body["timestamp"]),
            )
        )
        return _saved()

    def _write_experiment_set_start_end_time(self, body):
        self._experiment(body["experimentKey"])
        return _saved()

    def _upload(self, call, query, parts):
        wrong = complaint(_UPLOADS[call], query)
        if wrong is None and ("file" not in parts or parts.keys() - {"file", "metadata"}):
            wrong = f"the parts are {sorted(parts)}"
        if wrong is not None:
            raise Refused(400, 0, wrong)
        experiment = self._experiment(query.get("experimentId") or query["experimentKey"])
        if "runId" in query and (query["runId"], query["projectId"]) != (
            experiment.run_id,
            PROJECT,
        ):
            raise Refused(400, 0, "this run is of another experiment")
        number = query.get("imageId") or query.get("assetId") or uuid.uuid4().hex
        _check_new(experiment, number, 7000006 if "imageId" in query else 7000005)
        if len(parts["file"]) > self.largest << 20:
            raise Refused(400, 7000001, "the file is too large")
        metadata = json.loads(parts["metadata"]) if "metadata" in parts else None
        experiment.assets[number] = query, parts["file"], metadata
        return {"assetId": number, "imageId": None, "msg": "saved", "code": 200}

    def _asset_upload_start(self, body):
        wrong = complaint(PARTS, body["startUploadParams"])
        experiment = self._experiment(body["experimentId"])
        if wrong is not None or self.storage is None or body["runId"] != experiment.run_id:
            raise Refused(400, 0, wrong or "no storage for that")
        _check_new(experiment, body["assetId"], 7000005)
        request, urls = self.storage.begin(body, body["startUploadParams"]["numOfFileParts"])
        return {"requestId": request, "preSignUrl": urls}

    def _asset_upload_complete(self, body):
        asset, content = self.storage.end(
            body["requestId"], body["fileSize"], body["uploadedFileParts"]
        )
        metadata = json.loads(asset.get("metadata") or "null")
        query = {name: value for name, value in asset.items() if name != "startUploadParams"}
        assets = self._experiment(asset["experimentId"]).assets
        assets[asset["assetId"]] = query, content, metadata
        return _saved()


def _saved():
    return {"msg": "Saved", "code": 200, "sdk_error_code": 0}


def _check_new(experiment, number, code):
    if number in experiment.assets:
        raise Refused(400, code, "asset is immutable")


def _check_length(name, value, most):
    if isinstance(value, str) and len(value) > most:
        raise Refused(400, 0, f"{name} has {len(value)} characters, at most {most} are taken")
