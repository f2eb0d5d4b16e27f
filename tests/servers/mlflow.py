"""A strict stand-in for an MLflow server on a database: what the real one refuses, it refuses.

Written from recordings of real servers, which `tests/sinks/test_mlflow_server.py` replays against
it. Of version 3.17.2 or, with its quirks, 2.2.2.
"""

import json
import math
import posixpath
import re
import uuid
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.servers import _tracker

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/"


class Refused(_tracker.Refused):
    """In MLflow's words; without a code the page of the server below it."""

    def __init__(self, status, code="", message=""):
        told = {"error_code": code, "message": message}
        super().__init__(status, told if code else b"<!doctype html><h1>Error</h1>", message)


def bad(message):
    """The answer to a request that makes no sense."""
    return Refused(400, "INVALID_PARAMETER_VALUE", message)


@dataclass
class Run:
    """A run as a database has it; `points` is a set, because its rows are their own key."""

    info: dict
    tags: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    points: dict = field(default_factory=dict)

    def series(self, key):
        """Steps and values of a metric, as they were logged."""
        return [(step, value) for name, _, step, value in self.points if name == key]

    def described(self):
        """As `runs/get` shows it."""
        latest = {}
        for key, time, step, value in self.points:
            point = {"key": key, "value": value, "timestamp": time, "step": step}
            before = latest.setdefault(key, point)
            if (before["step"], before["timestamp"]) <= (step, time):
                latest[key] = point
        pairs = [[{"key": k, "value": v} for k, v in d.items()] for d in (self.params, self.tags)]
        data = {"metrics": list(latest.values()), "params": pairs[0], "tags": pairs[1]}
        return {"info": self.info, "data": {name: each for name, each in data.items() if each}}


class StandIn(_tracker.TrackerServer):
    """MLflow's server.

    Attributes:
        old: Whether it is of version 2.2.2.
        files: Artifacts by their path.
    """

    methods = frozenset({"GET", "POST", "PUT", "PATCH"})
    refusal = Refused

    def __init__(self, *, old=False, serves_artifacts=True, certificate=None):
        super().__init__(certificate=certificate)
        self.old = old
        self.serves_artifacts = serves_artifacts
        self.experiments = {"0": {"name": "Default", "lifecycle_stage": "active"}}
        self.runs = {}
        self.files = {}

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    def read(self, request):
        if request.path.startswith(FILES):
            return "artifacts", None
        if request.path.startswith(API):
            return request.path.removeprefix(API), _decoded(request)
        return request.path, None

    def apply(self, request, call, body):
        if call == "/version":
            return b"2.2.2" if self.old else b"3.17.2"
        if (request.method, call) == ("PUT", "artifacts"):
            return self._put(unquote(request.path.removeprefix(FILES)), request.content)
        handler = {
            ("GET", "experiments/get-by-name"): self._experiment_by_name,
            ("GET", "experiments/get"): self._experiment,
            ("POST", "experiments/create"): self._create_experiment,
            ("POST", "experiments/delete"): self._delete_experiment,
            ("POST", "experiments/restore"): self._restore_experiment,
            ("POST", "runs/create"): self._create_run,
            ("GET", "runs/get"): lambda given: {"run": self._run(given).described()},
            ("POST", "runs/search"): self._search,
            ("POST", "runs/update"): self._update,
            ("POST", "runs/delete"): self._delete_run,
            ("POST", "runs/log-batch"): self._log_batch,
            ("POST", "logged-models/search"): lambda _: {},
            ("GET", "metrics/get-history"): self._history_of,
            ("GET", FILES.rstrip("/")): self._listed,
        }.get((request.method, call))
        if handler is None:
            raise Refused(404)
        return handler(request.query if body is None else body)

    def _put(self, path, content):
        if not self.serves_artifacts:
            raise Refused(
                503, "UNAVAILABLE", "Artifact serving is disabled: `--no-serve-artifacts`"
            )
        self.files[path] = content
        return b"{}"

    def _experiment_by_name(self, query):
        for number, each in self.experiments.items():
            if each["name"] == query["experiment_name"]:
                return {"experiment": {"experiment_id": number, **each}}
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment")

    def _experiment(self, query):
        number = query["experiment_id"]
        return {"experiment": {"experiment_id": number, **self.experiments[number]}}

    def _create_experiment(self, body):
        if any(each["name"] == body["name"] for each in self.experiments.values()):
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", "UNIQUE constraint failed: experiments")
        number = str(len(self.experiments))
        self.experiments[number] = {"name": body["name"], "lifecycle_stage": "active"}
        return {"experiment_id": number}

    def _delete_experiment(self, body):
        self.experiments[body["experiment_id"]]["lifecycle_stage"] = "deleted"
        return {}

    def _restore_experiment(self, body):
        self.experiments[body["experiment_id"]]["lifecycle_stage"] = "active"
        return {}

    def _create_run(self, body):
        number = body["experiment_id"]
        if number not in self.experiments:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={number} exists")
        if self.experiments[number]["lifecycle_stage"] == "deleted":
            raise bad(f"The experiment {number} must be in the 'active' state.")
        run_id = uuid.uuid4().hex
        info = {
            "run_uuid": run_id,
            "run_id": run_id,
            "experiment_id": number,
            "run_name": body.get("run_name"),
            "status": "RUNNING",
            "start_time": body["start_time"],
            "lifecycle_stage": "active",
            "artifact_uri": f"mlflow-artifacts:/{number}/{run_id}/artifacts",
        }
        if not self.serves_artifacts:
            info["artifact_uri"] = "s3://bucket/folder"
        tags = {each["key"]: each["value"] for each in body.get("tags", ())}
        self.runs[run_id] = Run(info, tags)
        return {"run": self.runs[run_id].described()}

    def _run(self, given):
        run = self.runs.get(given.get("run_id") or given.get("run_uuid"))
        if run is None:
            if "/" in given["run_id"]:
                raise bad("Invalid value for parameter 'run_id' supplied.")
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", "Run with id= not found")
        return run

    def _history_of(self, query):
        points = [each for each in self._run(query).points if each[0] == query["metric_key"]]
        names = ("key", "timestamp", "step", "value")
        return {"metrics": [dict(zip(names, each, strict=True)) for each in points]}

    def _listed(self, query):
        """Files and folders directly below a path, by their names there."""
        below = f"{query['path']}/"
        found = {}
        for place, content in self.files.items():
            if place.startswith(below):
                name, _, deeper = place.removeprefix(below).partition("/")
                size = {} if deeper else {"file_size": len(content)}
                found[name] = {"path": name, "is_dir": bool(deeper), **size}
        return {"files": list(found.values())}

    def _search(self, body):
        wanted = re.fullmatch(r"tags\.`([^`]+)` = '([^']*)'", body["filter"])
        assert wanted is not None
        found = [
            run.described()
            for run in self.runs.values()
            if run.info["experiment_id"] in body["experiment_ids"]
            and run.info["lifecycle_stage"] == "active"
            and run.tags.get(wanted[1]) == wanted[2]
        ]
        return {"runs": found[: body["max_results"]]} if found else {}

    def _update(self, body):
        run = self._run(body)
        if body.get("status") in ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"):
            run.info["status"] = body["status"]
        if "end_time" in body:
            run.info["end_time"] = body["end_time"]
        return {"run_info": run.info}

    def _delete_run(self, body):
        self._run(body).info["lifecycle_stage"] = "deleted"
        return {}

    def _log_batch(self, body):
        metrics, params, tags = (body.get(name, []) for name in ("metrics", "params", "tags"))
        self._check_counts(metrics, params, tags)
        run = self._run(body)
        for index, each in enumerate(metrics):
            self._check_metric(index, each)
        for index, each in enumerate(params):
            self._check_name("Param key", f"params[{index}]", each.get("key"))
            each["value"] = str(each.get("value") or "")
            if self.old and len(each["value"]) > 500:
                raise bad("Param value exceeded length limit of 500 characters")
        for index, each in enumerate(tags):
            self._check_name("Tag key", f"tags[{index}]", each.get("key"))
            if self.old and len(each["value"]) > 5000:
                raise bad("Tag value exceeded length limit of 5000 characters")
        if run.info["lifecycle_stage"] == "deleted":
            raise bad("The run must be in the 'active' state. Current state is deleted.")
        if len({each["key"] for each in params}) < len(params):
            raise bad("Duplicate parameter keys have been submitted")
        values = {each["key"]: each["value"][:6000] for each in params}
        if any(run.params.get(key, value) != value for key, value in values.items()):
            raise bad("Changing param values is not allowed.")
        self._store(run, metrics)
        run.params |= values
        run.tags |= {each["key"]: each["value"][:8000] for each in tags}
        return {}

    def _store(self, run, metrics):
        points = [_point(each) for each in metrics]
        known = [point for point in points if point in run.points]
        many = len({point[0] for point in points}) > 100
        if self.old and known and (many or any(point[3] == "NaN" for point in known)):
            raise Refused(400, "BAD_REQUEST", "UNIQUE constraint failed: metrics.key, metrics.step")
        run.points |= dict.fromkeys(points)

    def _check_counts(self, metrics, params, tags):
        if len(metrics) > 1000 or len(params) > 100 or len(tags) > 100:
            raise bad("A batch logging request can contain at most 1000 metrics, 100 others.")
        if len(metrics) + len(params) + len(tags) > 1000:
            raise bad("A batch logging request can contain at most 1000 items.")

    def _check_metric(self, index, metric):
        place = f"metrics[{index}]"
        self._check_name("Metric name", place, metric.get("key"))
        if metric.get("value") is None or metric.get("timestamp") is None:
            raise bad(f"Missing value for required parameter '{place}.value'.")
        try:
            float(metric["value"])
        except (TypeError, ValueError):
            raise bad(f"Invalid value for parameter '{place}.value' supplied.") from None
        if self.old and "step" not in metric:
            raise Refused(500)

    def _check_name(self, what, place, key):
        if not key:
            raise bad(f"Missing value for required parameter '{place}.key'.")
        if not re.fullmatch(r"[/\w.\- ]*" if self.old else r"[/\w.\- :]*", key):
            raise bad(f"Invalid value \"x\" for parameter '{place}.name' supplied: Names may only")
        normal = posixpath.normpath(key)
        if normal != key or normal == "." or normal.startswith(("..", "/")):
            raise bad(f"Invalid value \"x\" for parameter '{place}.name' supplied: resolves")
        if len(key) > 250:
            raise bad(f"'{what}' exceeds the maximum length of 250 characters")


def _decoded(request):
    if request.method not in ("POST", "PATCH"):
        return None
    if request.headers.get("content-encoding"):
        raise Refused(500)
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise bad("Bad Request. Content-Type must be one of ['application/json'].")
    return json.loads(request.content)


def _point(metric):
    value = float(metric["value"])
    shown = "NaN" if math.isnan(value) else value
    if math.isinf(value):
        shown = math.copysign(1.7976931348623157e308, value)
    return metric["key"], metric["timestamp"], metric.get("step", 0), shown
