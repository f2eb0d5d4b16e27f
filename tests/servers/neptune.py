"""A strict stand-in for a Neptune 2.x server: what the real one refuses, it refuses.

Written from recordings of Neptune's own client, which `tests/sinks/test_neptune_server.py` replays
against it. No public server is left that it could be compared with.
"""

import base64
import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

from tests.servers import _tracker
from tests.servers.neptune_operations import Attributes
from tests.servers.neptune_signals import Signals
from tests.servers.neptune_swagger import document

BACKEND = "/api/backend/v1/"
BOARD = "/api/leaderboard/v1/"
SIGNALS = "/api/notifications/v1/runs/"
API_KEY = "an api key of nobody"
SINGLE = 5 << 20
"""Bytes of a file that may come in one request."""

_QUERIES = {
    "clients/config": ({"alpha"}, set()),
    "authorization/oauth-token": (set(), set()),
    "projects/get": ({"projectIdentifier"}, set()),
    "attributes": ({"experimentId"}, set()),
    "attributes/operations": ({"experimentId"}, {"organizationName"}),
    "attributes/ping": ({"experimentId"}, set()),
    "attributes/uploadFileSetTar": ({"experimentId", "attribute", "reset"}, set()),
    "storage/file/upload": ({"experimentIdentifier", "attribute", "ext"}, set()),
    "storage/file/upload/start": (
        {"experimentIdentifier", "attribute", "ext", "totalLength"},
        set(),
    ),
    "storage/fileset/upload": ({"experimentIdentifier", "attribute", "subPath"}, set()),
    "storage/fileset/upload/start": (
        {"experimentIdentifier", "attribute", "subPath", "totalLength"},
        set(),
    ),
}
_READING = {
    "attributes/floats": "float",
    "attributes/ints": "int",
    "attributes/bools": "bool",
    "attributes/strings": "string",
    "attributes/stringSets": "stringSet",
    "attributes/floatSeries/values": "floatSeries",
    "attributes/stringSeries/values": "stringSeries",
}
for _call in _READING:
    _page = {"limit", "offset"} if _call.endswith("values") else set()
    _QUERIES[_call] = ({"experimentId", "attribute"} | _page, set())
_PART = {"experimentIdentifier", "attribute", "uploadId", "uploadPartIdx"}
_FINISH = {"experimentIdentifier", "attribute", "uploadId"}
for _kind, _more in (("file", set()), ("fileset", {"subPath"})):
    _QUERIES[f"storage/{_kind}/upload/part"] = (_PART | _more, set())
    _QUERIES[f"storage/{_kind}/upload/finish"] = (_FINISH | _more, set())
_CREATE = ({"projectIdentifier", "parentId", "type", "cliVersion"}, {"gitInfo", "customId"})


class Refused(_tracker.Refused):
    """In Neptune's words."""

    def __init__(self, status, error="", title="", *, headers=None, body=None):
        told = {"code": status, "errorType": error, "title": title}
        super().__init__(status, told if body is None else body, title, headers)


def api_token(address, key=API_KEY):
    """What a user of the server at this address has in NEPTUNE_API_TOKEN."""
    told = {"api_address": address, "api_url": address, "api_key": key}
    return base64.b64encode(json.dumps(told).encode()).decode()


@dataclass
class Run:
    """A run as the service shows it."""

    id: str
    short_id: str
    custom_id: str | None = None
    attributes: Attributes = field(default_factory=Attributes)
    trashed: bool = False

    @property
    def failed(self):
        """What the red mark says."""
        return self.attributes.values.get("sys/failed")

    def series(self, path):
        """Steps and values of a series."""
        return [(step, value) for step, value, _ in self.attributes.series.get(path, [])]

    def files(self, path):
        """What is stored at an attribute: bytes, or bytes by their place in a set of files."""
        return self.attributes.files.get(path)

    def state(self):
        """Everything but the times, to compare with another run."""
        shown = {path: self.series(path) for path in self.attributes.series}
        return {**self.attributes.values, **shown, **self.attributes.files}


class StandIn(_tracker.TrackerServer):
    """Neptune's server.

    Attributes:
        minfx: Whether it is Minfx's.
        lifetime: Seconds that an access token is good for.
        fields: What requests had in their queries and bodies: method and call, and field.
        odd: A path of which it understands no operation.
        refused: What it said of operations that it did not apply.
        pings: How many each run has had.
        signals: The web sockets of runs, for the stop button.
    """

    refusal = Refused

    def __init__(self, *, minfx=False, lifetime=3600.0):
        super().__init__()
        self.minfx = minfx
        self.lifetime = lifetime
        self.project = {
            "id": str(uuid.uuid4()),
            "name": "demo",
            "organizationName": "team",
            "organizationId": str(uuid.uuid4()),
            "projectKey": "DEM",
            "version": 2,
        }
        self.runs = {}
        self.tokens = {}
        self.uploads = {}
        self.fields = set()
        self.odd = None
        self.refused = []
        self.pings = Counter()
        self.signals = Signals()

    @property
    def token(self):
        """What a user has in NEPTUNE_API_TOKEN."""
        return api_token(self.url)

    def __exit__(self, *exception):
        self.signals.close()
        super().__exit__(*exception)

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    def serve(self, exchange):
        """Requests as all do, and the web sockets."""
        if not exchange.request.target.startswith(SIGNALS):
            super().serve(exchange)
            return
        try:
            self._check_access(exchange.request.headers)
        except Refused as refusal:
            exchange.answer(refusal.reply)
            return
        run_id = exchange.request.target.removeprefix(SIGNALS).split("/")[1]
        self.signals.serve(exchange, run_id)

    def operations(self):
        """Every operation that was sent, applied or not."""
        return [each for body in self.calls("attributes/operations") for each in body]

    def read(self, request):
        call = request.path.removeprefix(BACKEND).removeprefix(BOARD)
        call = call.replace("attributes/storage/", "storage/")
        return call, _decoded(call, request)

    def apply(self, request, call, body):
        kind = f"{request.method} {call}"
        self.fields |= {(kind, each) for each in [*request.query, *_fields(body)]}
        found = self._called(request, call, body)
        return b"" if found is None else found

    def _called(self, request, call, body):  # noqa: PLR0911 - one for each call
        method, query, headers = request.method, request.query, request.headers
        if call.endswith("/swagger.json"):
            return document(call.split("/")[2])
        if call == "clients/config":
            _only(query, *_QUERIES[call])
            self._check_api_token(headers)
            return self._config()
        if call == "authorization/oauth-token":
            _only(query, *_QUERIES[call])
            self._check_api_token(headers)
            return {"accessToken": self.issue(), "refreshToken": "r" * 40, "username": "user"}
        if call.endswith("/protocol/openid-connect/token"):
            return {"access_token": self.issue(), "token_type": "Bearer", "expires_in": 3600}
        self._check_access(headers)
        if (method, call) == ("POST", "experiments"):
            _only(query, set(), set())
            return self._create(body)
        if (method, call) == ("GET", "experiments"):
            _only(query, {"experimentId"}, set())
            return self._shown(self._find(query["experimentId"]))
        if call not in _QUERIES:
            raise Refused(404, "NOT_FOUND", call)
        _only(query, *_QUERIES[call])
        if call == "projects/get":
            return self._project(query["projectIdentifier"])
        run = self._find(query.get("experimentId") or query.get("experimentIdentifier"))
        if call.startswith("storage/"):
            return self._store(run, call, query, headers, request.content)
        return self._on_run(run, call, query, body, request.content)

    def _on_run(self, run, call, query, body, content):
        if call == "attributes/operations":
            return self._operations(run, body)
        if call == "attributes/ping":
            self.pings[run.id] += 1
            return None
        if call == "attributes":
            return {"attributes": run.attributes.listed()}
        if call in _READING:
            return self._read(run, call, query)
        assert call == "attributes/uploadFileSetTar"
        run.attributes.store_archive(query["attribute"], content)
        return {"errors": []}

    def _read(self, run, call, query):
        path, kind = query["attribute"], _READING[call]
        known = {"sys/id": run.short_id, **run.attributes.values}
        if {"sys/id": "string", **run.attributes.types}.get(path) != kind:
            raise Refused(404, "ATTRIBUTE_NOT_FOUND", path)
        if kind in ("floatSeries", "stringSeries"):
            points = run.attributes.series[path]
            begin = int(query["offset"])
            shown = [
                {"step": step, "value": value, "timestampMillis": time}
                for step, value, time in points[begin : begin + int(query["limit"])]
            ]
            return {"totalItemCount": len(points), "values": shown}
        told = {"values" if kind == "stringSet" else "value": known[path]}
        return {"attributeName": path, "attributeType": kind, **told}

    def _operations(self, run, body):
        if not isinstance(body, list) or not body:
            raise Refused(400, "BAD_REQUEST", "a list of operations is expected")
        errors = []
        for each in body:
            why = run.attributes.malformed(each, minfx=self.minfx)
            if why or each["path"] == self.odd:
                raise Refused(400, "BAD_REQUEST", why)
        for each in body:
            errors += run.attributes.apply(each, minfx=self.minfx)
        self.refused += [each["errorDescription"] for each in errors]
        return errors

    def _check_api_token(self, headers):
        try:
            told = json.loads(base64.b64decode(headers.get("x-neptune-api-token", "")))
            known = told["api_key"] == API_KEY
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise Refused(401, "INVALID_API_TOKEN", "the API token is not known")

    def _check_access(self, headers):
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self.tokens.get(token, 0.0) < time.time():
            raise Refused(
                401, "AUTHORIZATION_TOKEN_EXPIRED", "the access token is no good (any more)"
            )

    def issue(self):
        """An access token that is good from now on."""
        expires = time.time() + self.lifetime
        told = {"exp": int(expires), "azp": "neptune-cli", "iss": f"{self.url}/auth/realms/neptune"}
        parts = [base64.urlsafe_b64encode(json.dumps(each).encode()) for each in ({}, told)]
        token = f"{parts[0].decode()}.{parts[1].decode()}.{uuid.uuid4().hex}".replace("=", "")
        self.tokens[token] = expires
        return token

    def _config(self):
        return {
            "apiUrl": self.url,
            "applicationUrl": self.url,
            "pyLibVersions": {},
            "multiPartUpload": {
                "enabled": True,
                "minChunkSize": SINGLE,
                "maxChunkSize": 1 << 30,
                "maxChunkCount": 1000,
                "maxSinglePartSize": SINGLE,
            },
            "artifacts": {"enabled": True, "apiVersion": 2},
            "security": {"clientId": "neptune-cli"},
        }

    def _project(self, identifier):
        if identifier not in ("team/demo", self.project["id"]):
            raise Refused(404, "PROJECT_NOT_FOUND", identifier)
        return self.project

    def _create(self, body):
        _only(body, *_CREATE)
        if (
            body["projectIdentifier"] != self.project["id"]
            or body["parentId"] != self.project["id"]
        ):
            raise Refused(404, "PROJECT_NOT_FOUND", str(body["projectIdentifier"]))
        if body["type"] != "run" or not body["cliVersion"]:
            raise Refused(400, "BAD_REQUEST", "type must be run, cliVersion a version")
        custom = body.get("customId")
        if custom is not None and len(custom) > 36:
            raise Refused(400, "BAD_REQUEST", "customId has more than 36 characters")
        for run in self.runs.values():
            if custom is not None and run.custom_id == custom:
                return self._shown(run)
        run = Run(str(uuid.uuid4()), f"DEM-{len(self.runs) + 1}", custom)
        self.runs[run.id] = run
        return self._shown(run)

    def _find(self, identifier):
        for run in self.runs.values():
            if identifier in (run.id, f"team/demo/{run.short_id}"):
                return run
        raise Refused(404, "EXPERIMENT_NOT_FOUND", str(identifier))

    def _shown(self, run):
        return {
            "id": run.id,
            "type": "run",
            "shortId": run.short_id,
            "organizationName": "team",
            "organizationId": self.project["organizationId"],
            "projectName": "demo",
            "projectId": self.project["id"],
            "parentId": self.project["id"],
            "trashed": run.trashed,
        }

    def _store(self, run, call, query, headers, content):
        _, kind, _, *what = call.split("/")
        place = (query["attribute"], query.get("subPath"))
        if not what:
            if len(content) > SINGLE:
                raise Refused(413, "TOO_LARGE", "this needs an upload in parts")
            run.attributes.store(*place, content)
            return {"errors": []}
        if what == ["start"]:
            if int(query["totalLength"]) <= SINGLE:
                raise Refused(400, "BAD_REQUEST", "this needs no parts")
            upload_id = str(uuid.uuid4())
            self.uploads[upload_id] = (kind, place, bytearray(int(query["totalLength"])), set())
            return {"errors": [], "uploadId": upload_id}
        if query["uploadId"] not in self.uploads:
            raise Refused(404, "UPLOAD_NOT_FOUND", query["uploadId"])
        known_kind, known_place, data, seen = self.uploads[query["uploadId"]]
        if (known_kind, known_place) != (kind, place):
            raise Refused(400, "BAD_REQUEST", "the upload is of another attribute")
        if what == ["part"]:
            _part(data, seen, headers, content, int(query["uploadPartIdx"]))
        else:
            if sum(end - begin for _, begin, end in seen) != len(data):
                raise Refused(400, "BAD_REQUEST", "parts are missing")
            run.attributes.store(*place, bytes(data))
            del self.uploads[query["uploadId"]]
        return {"errors": []}


def _part(data, seen, headers, content, index):
    try:
        unit, _, rest = headers["x-range"].partition("=")
        span, _, total = rest.partition("/")
        begin, end = (int(each) for each in span.split("-"))
    except (KeyError, ValueError):
        raise Refused(400, "BAD_REQUEST", "X-Range: bytes=0-9/100 is expected") from None
    if unit != "bytes" or int(total) != len(data) or end - begin + 1 != len(content):
        raise Refused(400, "BAD_REQUEST", "X-Range does not fit")
    if len(content) < SINGLE and end + 1 != len(data):
        raise Refused(400, "BAD_REQUEST", "the part is too small")
    data[begin : end + 1] = content
    seen.add((index, begin, end + 1))


def _only(given, required, optional):
    missing, unknown = required - given.keys(), given.keys() - required - optional
    if missing or unknown or any(given[each] in (None, "") for each in required - {"ext"}):
        raise Refused(400, "BAD_REQUEST", f"missing: {missing}, unknown: {unknown}")


def _fields(body):
    """The names in a JSON body; those of operations with the action they belong to."""
    if isinstance(body, dict):
        return list(body)
    found = []
    for operation in body or []:
        for action, given in operation.items():
            found.append(action)
            if isinstance(given, dict):
                found += [f"{action}.{name}" for name in given]
                for entry in given.get("entries", [])[:1]:
                    found += [f"{action}.entries.{name}" for name in entry]
    return found


def _decoded(call, request):
    if call not in ("experiments", "attributes/operations") or not request.content:
        return None
    if request.headers.get("content-encoding"):
        raise Refused(415, "UNSUPPORTED", "no compressed bodies")
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, "UNSUPPORTED", "JSON is expected")
    try:
        return json.loads(request.content, parse_constant=_no_constant)
    except ValueError as error:
        raise Refused(400, "BAD_REQUEST", str(error)) from None


def _no_constant(name):
    raise ValueError(f"{name} is no JSON")
