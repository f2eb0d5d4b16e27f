"""The calls of Comet's interface that a run needs, as its own client makes them.

Metrics, parameters and what concerns the experiment's life go where comet_ml 3.58.8 sends them;
the public REST interface, which takes one number a request, gets the rest. Every call but
`metrics` may be repeated.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from bus import UnavailableError
from sinks._comet_plan import Item
from sinks._comet_rates import Kind, Rates
from sinks._http import HttpClient

CLIENT: Final = "3.58.8"
"""The version of Comet's client whose requests these are; Comet may refuse old ones."""

_REST: Final = "/api/rest/v2/"
_WRITE: Final = "/api/rest/v2/write/experiment/"
_MEGABYTE: Final = 1 << 20
_BEAT: Final = 10.0
_SLOWEST: Final = 300.0


@dataclass(frozen=True, slots=True)
class RemoteExperiment:
    """An experiment as Comet has it.

    Attributes:
        key: Its key.
        run_id: What Comet calls this client's part in it.
        project_id: The project it is in.
        page: Where a person can look at it.
        offset: Console lines it has.
        largest: Bytes that an asset may have.
    """

    key: str
    run_id: str
    project_id: str
    page: str
    offset: int
    largest: int


@dataclass(frozen=True, slots=True)
class Beat:
    """What Comet answers to a sign of life.

    Attributes:
        interval: Seconds until it wants the next one.
        calls: Whether somebody asks something of the run.
    """

    interval: float
    calls: bool


class CometServer:
    """Comet, or an installation of one's own.

    Args:
        http: The client of the sink.
        root: The server's address without a path.
        clientlib: The address for its own client, without a slash at the end.
        api_key: The key, which these calls want in their bodies too.
    """

    def __init__(self, http: HttpClient, root: str, clientlib: str, api_key: str) -> None:
        self.clientlib = clientlib
        self.rates = Rates()
        self._http = http
        self._root = root
        self._key = api_key

    async def version(self) -> str:
        """What the server says it is."""
        answer = await self._http.get(f"{self.clientlib}/isAlive/ver", timeout=10.0)
        return str(_object(answer.json()).get("version", ""))[:40]

    async def account(self) -> str:
        """The account's workspaces, which shows whether the key is good."""
        answer = await self._http.get(f"{self._root}{_REST}workspaces")
        names = _object(answer.json()).get("workspaceNames")
        return ", ".join(map(str, names)) if isinstance(names, list) else ""

    async def add_run(
        self, key: str, project: str | None, workspace: str | None, *, existing: bool
    ) -> RemoteExperiment:
        """Make an experiment, or go on with the one of this key if that is allowed.

        Raises:
            ExistsError: There is one, and that is not allowed.
        """
        body: Item = {
            "apiKey": self._key,
            "local_timestamp": _now(),
            "experimentKey": key,
            "offline": False,
            "projectName": project,
            "teamName": workspace,
            "libVersion": CLIENT,
            "getOrCreateEnabled": existing,
        }
        return _experiment(key, await self._post(f"{self.clientlib}/logger/add/run", body))

    async def get_run(self, key: str) -> RemoteExperiment:
        """Go on with an experiment."""
        body: Item = {
            "apiKey": self._key,
            "local_timestamp": _now(),
            "previousExperiment": key,
            "libVersion": CLIENT,
        }
        return _experiment(key, await self._post(f"{self.clientlib}/logger/get/run", body))

    async def beat(self, experiment: RemoteExperiment, *, alive: bool) -> Beat:
        """Tell that the run lives, or that it is over."""
        body: Item = {
            "apiKey": self._key,
            "runId": experiment.run_id,
            "experimentKey": experiment.key,
            "projectId": experiment.project_id,
            "is_alive": alive,
            "local_timestamp": _now(),
            "offline": False,
        }
        answer = await self._post(f"{self.clientlib}/status-report/update", body)
        wished = answer.get("is_alive_beat_duration_millis")
        seconds = wished / 1000 if isinstance(wished, (int, float)) and wished > 0 else _BEAT
        return Beat(min(seconds, _SLOWEST), bool(answer.get("pending_rpcs")))

    async def stopped_by(self, key: str) -> str | None:
        """Who pressed the stop button since it was asked last; None if nobody did."""
        address = f"{self.clientlib}/rpc/get-pending-rpcs"
        answer = await self._http.get(address, params={"experimentKey": key})
        calls = _object(answer.json()).get("remoteProcedureCalls")
        for call in calls if isinstance(calls, list) else []:
            found = _object(call)
            if found.get("functionName") == "stop" and found.get("cometDefined") is True:
                return str(found.get("userName") or "somebody")
        return None

    async def update_status(
        self, key: str, *, alive: bool, crashed: bool = False, error: str | None = None
    ) -> None:
        """Say how the experiment is; this alone takes a crash mark away."""
        body: Item = {
            "experimentKey": key,
            "isAlive": alive,
            "error": error,
            "hasCrashed": crashed,
        }
        await self._post(f"{self._root}{_WRITE}update-status", body)

    async def other(self, key: str, name: str, value: JsonValue) -> None:
        """Set a single value."""
        body: Item = {"experimentKey": key, "key": name, "value": value}
        await self._post(f"{self._root}{_WRITE}log-other", body, kind="else")

    async def tags(self, key: str, tags: Sequence[str]) -> None:
        """Add tags."""
        body: Item = {"experimentKey": key, "addedTags": list(tags)}
        await self._post(f"{self._root}{_WRITE}tags", body, kind="else")

    async def parameters(self, key: str, items: Sequence[Item]) -> None:
        """Set parameters."""
        await self.rates.room("parameter", len(items))
        await self._batch("batch/logger/experiment/parameter", key, "values", items)

    async def metrics(self, key: str, items: Sequence[Item]) -> None:
        """Append points."""
        await self.rates.room("metric", len(items))
        await self._batch("batch/logger/experiment/metric", key, "values", items)

    async def output(self, key: str, lines: Sequence[Item]) -> None:
        """Write console lines."""
        await self.rates.room("output", len(lines))
        path = "rest/v2/write/experiment/output"
        await self._batch(path, key, "outputLines", lines, runContext=None)

    async def notify(self, experiment: RemoteExperiment, name: str, title: str, text: str) -> None:
        """Have Comet send a message to the account's owner."""
        body: Item = {
            "api_key": self._key,
            "title": title,
            "status": None,
            "experiment_key": experiment.key,
            "experiment_name": name,
            "experiment_link": experiment.page,
            "additional_data": {"text": text},
        }
        await self._post(f"{self.clientlib}/notification/experiment", body, kind="else")

    async def mark_not_throttled(self, key: str) -> None:
        """Take away the warning that data is missing, when all of it has come."""
        await self._post(f"{self._root}{_WRITE}{key}/mark-not-throttled", {})

    async def _batch(
        self, path: str, key: str, name: str, items: Sequence[Item], **more: JsonValue
    ) -> None:
        body: Item = {"experimentKey": key, name: list(items), **more}
        await self._post(f"{self.clientlib}/{path}", body, gzip=True)

    async def _post(
        self, url: str, body: Item, *, kind: Kind | None = None, gzip: bool = False
    ) -> Mapping[str, JsonValue]:
        if kind is not None:
            await self.rates.room(kind)
        headers = {"content-type": "application/json;charset=utf-8"}
        answer = await self._http.post(url, content=to_json(body), headers=headers, gzip=gzip)
        return _object(answer.json())


def _now() -> int:
    """The time of a request that no event is behind, in milliseconds since 1970."""
    return int(time.time() * 1000)


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, dict):
        raise UnavailableError("the answer is none of Comet's")
    return value


def _experiment(key: str, answer: Mapping[str, JsonValue]) -> RemoteExperiment:
    run_id = answer.get("runId")
    if not isinstance(run_id, str):
        raise UnavailableError("the answer of Comet lacks runId")
    offset = answer.get("lastOffset")
    largest = answer.get("asset_upload_file_size_limit_in_mb")
    return RemoteExperiment(
        key=key,
        run_id=run_id,
        project_id=str(answer.get("project_id") or ""),
        page=f"{answer.get('focusUrl') or ''}{key}",
        offset=offset if isinstance(offset, int) else 0,
        largest=(largest if isinstance(largest, int) else 200) * _MEGABYTE,
    )
