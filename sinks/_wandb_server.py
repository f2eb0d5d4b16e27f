"""The calls of W&B's interface that a run needs, as its own client makes them.

Every call may be repeated: a run's id is ours, lines have offsets, and what an artifact holds is
known by its digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import JsonValue

from bus import MisconfiguredError, RejectedError, UnavailableError
from sinks._http import HttpClient
from sinks._json_answers import inside
from sinks._wandb_answers import data_of
from sinks._wandb_pace import Pace
from sinks._wandb_plan import Alert
from sinks._wandb_queries import ALERT, RUN_FILES, STATUS, UPSERT, VIEWER
from sinks._wandb_values import decoded, without_wrapping

_APPS: Final = {
    "api.wandb.ai": "https://wandb.ai",
    "api.forge.coreweave.com": "https://forge.coreweave.com/wandb",
}
_ALERT_PAUSE: Final = 60_000
"""Milliseconds in which the server shows an alert of one title once, as its own client asks."""


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run as the server has it.

    Attributes:
        storage_id: What an update of it is addressed to.
        history: Lines of its history, as far as the server has counted them.
        step: The last row's `_step`; -1 if there is none.
        global_step: The last row's global step; -1 if it has none.
        runtime: Seconds that it had run by then.
        config: Its configuration by key.
        summary: Its summary.
    """

    storage_id: str
    history: int
    events: int
    console: int
    step: int
    global_step: int
    runtime: float
    config: Mapping[str, JsonValue] = field(repr=False)
    summary: Mapping[str, JsonValue] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is; an empty entity stands for the key's own."""

    entity: str
    project: str
    run_id: str


class WandbServer:
    """A W&B server.

    Args:
        http: The client of the sink.
        base: Its address without a slash at the end.
        headers: Sent with calls, and not with files: storage is not shown the key.
    """

    def __init__(self, http: HttpClient, base: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._base = base
        self._headers = headers
        self._calls = Pace()
        self._streams = Pace()

    async def call(
        self, name: str, query: str, variables: Mapping[str, JsonValue]
    ) -> dict[str, JsonValue]:
        """Make a GraphQL call; what it returned.

        Raises:
            DeliveryError: As `HttpClient.request`, and for what the answer says.
        """
        body: JsonValue = {"query": query, "variables": dict(variables), "operationName": name}
        url = f"{self._base}/graphql"
        await self._calls.turn()
        answer = await self._http.post(url, json=body, headers=self._headers, good={409})
        self._calls.heed(answer.headers)
        if answer.status == 409:  # somebody else changes it at this moment
            raise UnavailableError(f"{name}: HTTP 409: {answer.text[:500]}")
        return data_of(answer.json(), name)

    async def viewer(self) -> str:
        """Whose key it is.

        Raises:
            MisconfiguredError: Nobody's.
        """
        viewer = inside(await self.call("Viewer", VIEWER, {}), "viewer")
        name = viewer.get("username") or viewer.get("entity")
        if not name:
            raise MisconfiguredError("the server does not know this key", fix="check WANDB_API_KEY")
        return str(name)

    async def status(self, place: Place) -> RemoteRun | None:
        """A run; None if nobody has begun one of this id, as with those that a sweep makes."""
        variables: dict[str, JsonValue] = {
            "entity": place.entity or None,
            "project": place.project,
            "name": place.run_id,
        }
        data = await self.call("RunResumeStatus", STATUS, variables)
        bucket = inside(data, "model", "bucket")
        began = "t" in decoded(str(bucket.get("wandbConfig") or "{}"))
        return _run(bucket) if began else None

    async def upsert(self, variables: Mapping[str, JsonValue]) -> Place:
        """Make or change a run; where it is."""
        data = await self.call("UpsertBucket", UPSERT, variables)
        bucket = inside(data, "upsertBucket", "bucket")
        project = inside(bucket, "project")
        entity = inside(project, "entity").get("name")
        name, run_id = project.get("name"), bucket.get("name")
        if not isinstance(entity, str) or not isinstance(name, str) or not isinstance(run_id, str):
            raise UnavailableError("UpsertBucket: the answer does not say where the run is")
        return Place(entity, name, run_id)

    async def stream(self, place: Place, body: bytes) -> bool:
        """Send a body to a run's file stream; whether somebody has pressed the stop button."""
        path = "/".join(
            quote(part, safe="") for part in (place.entity, place.project, place.run_id)
        )
        await self._streams.turn()
        answer = await self._http.post(
            f"{self._base}/files/{path}/file_stream",
            content=body,
            headers={**self._headers, "content-type": "application/json"},
        )
        self._streams.heed(answer.headers)
        found = answer.json()
        return isinstance(found, dict) and found.get("stopped") is True

    async def alert(self, place: Place, alert: Alert) -> None:
        """Tell people."""
        variables: dict[str, JsonValue] = {
            "entityName": place.entity,
            "projectName": place.project,
            "runName": place.run_id,
            "title": alert.title,
            "text": alert.text,
            "severity": alert.severity,
            "waitDuration": _ALERT_PAUSE,
        }
        await self.call("NotifyScriptableRunAlert", ALERT, variables)

    async def run_file(self, place: Place, name: str) -> tuple[str, dict[str, str]]:
        """Where a file of the run is to be put, and with which headers."""
        variables: dict[str, JsonValue] = {
            "entity": place.entity,
            "project": place.project,
            "run": place.run_id,
            "files": [name],
        }
        data = await self.call("CreateRunFiles", RUN_FILES, variables)
        made = inside(data, "createRunFiles")
        files = made.get("files")
        url = inside(files[0]).get("uploadUrl") if isinstance(files, list) and files else None
        if not isinstance(url, str):
            raise RejectedError(f"there is no place for {name!r}")
        return url, headers_of(made.get("uploadHeaders"))

    def page(self, place: Place) -> str:
        """Where a person can look at the run."""
        app = _APPS.get(urlsplit(self._base).hostname or "", self._base)
        entity, project, run_id = (
            quote(part, safe="") for part in (place.entity, place.project, place.run_id)
        )
        return f"{app}/{entity}/{project}/runs/{run_id}"


def headers_of(listed: JsonValue) -> dict[str, str]:
    """Headers that come as a list of `Name:value`."""
    pairs: Sequence[JsonValue] = listed if isinstance(listed, list) else []
    split = [str(each).partition(":") for each in pairs]
    return {name.strip().lower(): value.strip() for name, _, value in split}


def _run(bucket: Mapping[str, JsonValue]) -> RemoteRun:
    tail = _tail(str(bucket.get("historyTail") or ""))
    summary = decoded(str(bucket.get("summaryMetrics") or "{}"))
    # Either may be behind the other: the server keeps both in caches.
    step = max(_number(tail.get("_step"), -1), _number(summary.get("_step"), -1))
    runtime = max(_number(summary.get("_runtime"), 0), _number(tail.get("_runtime"), 0))
    return RemoteRun(
        storage_id=str(bucket.get("id")),
        history=int(_number(bucket.get("historyLineCount"), 0)),
        events=int(_number(bucket.get("eventsLineCount"), 0)),
        console=int(_number(bucket.get("logLineCount"), 0)),
        step=int(step),
        global_step=int(_number(tail.get("train/global_step"), -1)),
        runtime=runtime,
        config=without_wrapping(str(bucket.get("config") or "{}")),
        summary={key: value for key, value in summary.items() if key != "_wandb"},
    )


def _tail(text: str) -> dict[str, JsonValue]:
    """The last row of a list of rows, each as JSON."""
    lines = decoded(f'{{"lines":{text or "[]"}}}').get("lines")
    return decoded(str(lines[-1])) if isinstance(lines, list) and lines else {}


def _number(value: JsonValue, default: float) -> float:
    return value if isinstance(value, (int, float)) and value - value == 0 else default
