"""A strict stand-in for ClearML's API server and file server: what they refuse, it refuses.

Written from recordings of ClearML's own client, which `tests/sinks/test_clearml_server.py` replays
against it. Both servers are on one port.
"""

import base64
import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from tests.servers import _tracker
from tests.servers import clearml_reading as reading
from tests.servers.clearml_fields import CALLS, EVENTS, LEVELS, STRAY

STARTS = frozenset({"created", "queued", "stopped", "completed", "in_progress"})
ENDS = {"stopped": {"in_progress"}, "failed": {"in_progress", "stopped", "queued", "failed"}}
ENDS["completed"] = {"in_progress", "stopped", "completed"}
OPEN = frozenset({"created", "in_progress"})
STATES = OPEN | {"queued", "stopped", "failed", "completed", "published"}


class Refused(_tracker.Refused):
    """In ClearML's words."""

    def __init__(self, status, code=0, message=""):
        meta = {"result_code": status, "result_subcode": code, "result_msg": message}
        super().__init__(status, {"meta": meta, "data": {}}, message)


@dataclass
class Task:
    """A task; scalars are by metric, variant and iteration, since that is a point's identity."""

    fields: dict
    hyperparams: dict = field(default_factory=dict)
    configuration: dict = field(default_factory=dict)
    scalars: dict = field(default_factory=dict)
    logs: list = field(default_factory=list)
    plots: dict = field(default_factory=dict)
    images: dict = field(default_factory=dict)
    models: dict = field(default_factory=dict)
    artifacts: dict = field(default_factory=dict)
    pings: int = 0

    @property
    def status(self):
        """What state it is in."""
        return self.fields["status"]

    def series(self, metric, variant):
        """Iterations and values of a series, in the order of their first arrival."""
        return list(self.scalars.get((metric, variant), {}).items())


class StandIn(_tracker.TrackerServer):
    """The servers; uploads are called "upload", what else is asked of the file server "file".

    Attributes:
        token: What a login gives; another one makes those given before worthless.
        files: Uploads by their path.
        refuses: Tells of the body of a call, or of one event, whether it is not valid.
    """

    methods = frozenset({"GET", "POST", "PUT", "DELETE"})
    refusal = Refused

    def __init__(self, *, access="FAKE", secret="FAKE"):  # noqa: S107 - of no server
        super().__init__()
        self.token = "FAKE.JWT.TOKEN"  # noqa: S105 - of no server
        self.projects = {}
        self.tasks = {}
        self.models = {}
        self.files = {}
        self.refuses = lambda _body: False
        self._basic = f"Basic {base64.b64encode(f'{access}:{secret}'.encode()).decode()}"
        self._count = 0

    @property
    def task(self):
        """The only task."""
        (task,) = self.tasks.values()
        return task

    def abort(self, task_id):
        """What the button of that name does to a task that no agent runs."""
        self.tasks[task_id].fields |= {"status": "stopped", "status_message": "Stopped by Somebody"}

    def read(self, request):
        if not re.match(r"/(v[\d.]+|auth\.)", request.path):
            return "upload" if request.path == "/" else "file", None
        call = request.path.rpartition("/")[2]
        if call == "events.add_batch":
            lines = request.content.decode().splitlines()
            return call, [json.loads(line) for line in lines if line]
        return call, json.loads(request.content) if call in CALLS else None

    def apply(self, request, call, body):
        self._authorized(call, request.headers)
        if call == "upload":
            return self._upload(request.method, request.headers, request.content)
        if call == "file":
            return self._file(request.method, unquote(request.path))
        meta = {"result_code": 200, "result_subcode": 0, "result_msg": "OK"}
        return {"meta": meta, "data": self._called(request, call, body)}

    def _authorized(self, call, headers):
        expected = {f"Bearer {self.token}"} | ({self._basic} if call == "auth.login" else set())
        if headers.get("authorization") not in expected:
            raise Refused(401, 20, "Unauthorized (invalid credentials)")

    def _called(self, request, call, body):
        if request.headers.get("content-encoding"):
            raise Refused(415, 0, "Unsupported content encoding")
        if request.path == "/auth.login":
            return {"token": self.token}
        if not re.fullmatch(r"/v2\.\d+/[a-z_]+\.[a-z_]+", request.path):
            raise Refused(400, 0, "Invalid request path")
        if call == "events.add_batch":
            return self._add_batch(request, body)
        if call not in CALLS:
            raise Refused(400, 0, f"Unable to resolve endpoint {call}")
        if request.headers.get("content-type") != "application/json":
            raise Refused(400, 12, "Validation error (content type)")
        _check(body, *CALLS[call])
        self._refuse(body)
        return getattr(self, f"_{call.replace('.', '_')}")(body)

    def _refuse(self, body):
        if self.refuses(body):
            raise Refused(400, 12, "Validation error (refused)")

    def _new_id(self):
        self._count += 1
        return f"{self._count:032x}"

    def _projects_get_all(self, body):
        names = {number: each["name"] for number, each in self.projects.items()}
        found = [number for number, name in names.items() if re.search(body["name"], name)]
        return {"projects": [{"id": number} for number in found]}

    def _projects_create(self, body):
        if any(each["name"] == body["name"] for each in self.projects.values()):
            raise Refused(400, 801, f"Value combination already exists: name={body['name']}")
        number = self._new_id()
        self.projects[number] = {"name": body["name"]}
        return {"id": number}

    def _projects_get_by_id(self, body):
        if body["project"] not in self.projects:
            raise Refused(400, 201, "Invalid project id")
        return {"project": {"id": body["project"], **self.projects[body["project"]]}}

    def _tasks_create(self, body):
        if body.get("project", "") not in self.projects:
            raise Refused(400, 201, "Invalid project id")
        number = self._new_id()
        fields = {key: each for key, each in body.items() if key != "method"}
        parts = {key: fields.pop(key, {}) for key in ("hyperparams", "configuration")}
        state = {"status": "created", "status_message": "", "status_reason": ""}
        self.tasks[number] = Task({**fields, **state}, **parts)
        return {"id": number}

    def _tasks_get_all(self, body):
        found = []
        for number, task in self.tasks.items():
            pattern = body.get("_all_")
            if (
                number in body.get("id", [number])
                and task.fields["project"] in body.get("project", [task.fields["project"]])
                and (pattern is None or re.search(pattern["pattern"], task.fields["comment"]))
            ):
                shown = {"id": number, **task.fields}
                wanted = body.get("only_fields", list(shown))
                found.append({key: shown[key] for key in wanted if key in shown} | {"id": number})
        return {"tasks": found}

    def _task(self, body):
        task = self.tasks.get(body["task"])
        if task is None:
            raise Refused(400, 101, f"Invalid task id: id={body['task']}, company=fakecompany")
        return task

    def _editable(self, body, *, force=None, allowed=OPEN):
        task = self._task(body)
        if not body.get("force", force):
            allowed = {"created"}
        if task.status not in allowed:
            words = f"Invalid task status: expected=created, status={task.status}"
            raise Refused(400, 110, words)
        return task

    def _tasks_get_by_id(self, body):
        return {"task": reading.document(body["task"], self._task(body))}

    def _events_scalar_metrics_iter_histogram(self, body):
        return reading.scalars(self._task(body))

    def _events_get_task_single_value_metrics(self, body):
        (task_id,) = body["tasks"]
        return reading.single_values(task_id, self._task({"task": task_id}))

    def _events_get_task_log(self, body):
        return reading.log(self._task(body))

    def _tasks_edit(self, body):
        task = self._editable(body, allowed=STATES - {"published"})
        for key, value in body.items():
            if key in ("hyperparams", "configuration"):
                setattr(task, key, value)
            elif key not in ("task", "force", "method"):
                task.fields[key] = value
        return {"updated": 1}

    def _tasks_edit_hyper_params(self, body):
        task = self._editable(body)
        for each in body["hyperparams"]:
            _check(each, {"section": str, "name": str, "value": str}, {"type": str})
            task.hyperparams.setdefault(each["section"], {})[each["name"]] = each
        return {"updated": 1}

    def _tasks_edit_configuration(self, body):
        task = self._editable(body)
        for each in body["configuration"]:
            _check(each, {"name": str, "value": str}, {"type": str})
            task.configuration[each["name"]] = each
        return {"updated": 1}

    def _tasks_set_requirements(self, body):
        self._task(body).fields["requirements"] = body["requirements"]
        return {"updated": 1}

    def _change(self, body, status, allowed):
        task = self._task(body)
        if task.status not in allowed and not body.get("force"):
            words = f"Invalid status change: current_status={task.status}, new_status={status}"
            raise Refused(400, 110, f"Invalid task status: {words}")
        said = {key: body.get(key, "") for key in ("status_reason", "status_message")}
        task.fields |= {"status": status, **said}
        return {"updated": 1, "fields": {"status": status}}

    def _tasks_started(self, body):
        return self._change(body, "in_progress", STARTS)

    def _tasks_stopped(self, body):
        return self._change(body, "stopped", ENDS["stopped"])

    def _tasks_failed(self, body):
        return self._change(body, "failed", ENDS["failed"])

    def _tasks_completed(self, body):
        return self._change(body, "completed", ENDS["completed"])

    def _tasks_ping(self, body):
        self._task(body).pings += 1
        return {}

    def _tasks_add_or_update_model(self, body):
        task = self._editable(body, force=True)
        if body["model"] not in self.models or body["type"] not in ("input", "output"):
            raise Refused(400, 401, "Invalid model id")
        shown = {key: body[key] for key in ("model", "type", "iteration") if key in body}
        task.models[body["name"]] = shown
        return {"updated": 1}

    def _tasks_add_or_update_artifacts(self, body):
        task = self._editable(body)
        optional = {"uri": str, "mode": str, "content_size": int, "hash": str, "timestamp": int}
        for each in body["artifacts"]:
            _check(each, {"key": str, "type": str}, {**optional, "type_data": dict})
            task.artifacts[each["key"]] = each
        return {"updated": 1}

    def _models_create(self, body):
        number = self._new_id()
        given = {key: each for key, each in body.items() if key != "method"}
        self.models[number] = {"tags": [], "system_tags": [], **given}
        return {"id": number, "created": True}

    def _models_delete(self, body):
        self._model(body)
        del self.models[body["model"]]
        for task in self.tasks.values():
            kept = {
                name: each for name, each in task.models.items() if each["model"] != body["model"]
            }
            task.models = kept
        return {"deleted": True}

    def _model(self, body):
        if body["model"] not in self.models:
            raise Refused(400, 400, "Invalid model id")
        return self.models[body["model"]]

    def _models_edit(self, body):
        model = self._model(body)
        model |= {key: each for key, each in body.items() if key not in ("model", "method")}
        return {"updated": 1}

    def _models_get_by_id(self, body):
        return {"model": {"id": body["model"], **self._model(body)}}

    def _models_get_all(self, body):
        found = [
            {"id": number}
            for number, each in self.models.items()
            if each["uri"] in body.get("uri", [each["uri"]])
            and each.get("task") in body.get("task", [each.get("task")])
        ]
        return {"models": found}

    def _add_batch(self, request, events):
        if request.headers.get("content-type") != "application/json-lines":
            raise Refused(400, 12, "Validation error (content type)")
        if len(request.content) > 15_728_640:
            raise Refused(413, 0, "Request entity too large")
        errors = defaultdict(int)
        for event in events:
            try:
                self._add(event)
            except Refused as refusal:
                errors[str(refusal)] += 1
        bad = sum(errors.values())
        if bad == len(events):
            raise Refused(400, 131, f"Events not added: {dict(errors)}")
        return {"added": len(events) - bad, "errors": bad, "errors_info": errors}

    def _add(self, event):
        self._refuse(event)
        kind = EVENTS.get(event.get("type"))
        if kind is None:
            raise Refused(400, 12, f"Invalid event type {event.get('type')}")
        _check(event, kind[0], {**kind[1], **STRAY})
        task = self.tasks.get(event["task"])
        if task is None:
            raise Refused(400, 101, f"Invalid task id {event['task']}")
        if task.status == "published":
            raise Refused(400, 110, f"Task is locked {event['task']}")
        place = (event.get("metric"), event.get("variant"))
        if event["type"] == "log":
            if event.get("level", "info") not in LEVELS:
                raise Refused(400, 12, f"Invalid level {event['level']}")
            task.logs.append((event.get("level"), event["msg"]))
        elif event["type"] == "training_stats_scalar":
            task.scalars.setdefault(place, {})[event["iter"]] = event["value"]
        elif event["type"] == "plot":
            task.plots[*place, event["iter"]] = json.loads(event["plot_str"])
        else:
            task.images[*place, event["iter"]] = event["url"]

    def _file(self, method, place):
        if place not in self.files or method not in ("GET", "DELETE"):
            raise Refused(404, 0, "no such file")
        return self.files.pop(place) if method == "DELETE" else self.files[place]

    def _upload(self, method, headers, content):
        kind, _, boundary = headers.get("content-type", "").partition("; boundary=")
        if method != "POST" or kind != "multipart/form-data" or not boundary:
            raise Refused(400, 0, "no file is sent")
        begin, end = f"--{boundary}\r\n".encode(), f"\r\n--{boundary}--\r\n".encode()
        if not content.startswith(begin) or not content.endswith(end):
            raise Refused(400, 0, "no form")
        head, _, data = content[len(begin) : -len(end)].partition(b"\r\n\r\n")
        named = re.search(r'; name="([^"]*)"; filename="([^"]*)"', head.decode())
        if named is None or named[1] != named[2] or ".." in named[1] or b"\r\n--" in data:
            raise Refused(400, 0, "no file name")
        self.files[named[1]] = data
        return json.dumps([quote(named[1])]).encode()


def _check(body, required, optional):
    """As the server's schemas do it, but that unknown fields are refused as well."""
    known = {**required, **optional, "method": str, "description": str}
    for key in required:
        if key not in body:
            raise Refused(400, 12, f"Validation error ('{key}' is a required property)")
    for key, value in body.items():
        kind = known.get(key)
        number = kind is float and isinstance(value, int)
        wrong = kind is None or not (isinstance(value, kind) or number)
        if wrong or (isinstance(value, bool) and kind is not bool):
            raise Refused(400, 12, f"Validation error ({key})")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(400, 12, f"Validation error ({key} is no number)")
