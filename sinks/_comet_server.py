"""The calls of Comet's interface that a run needs, as its own client makes them.

Metrics, parameters and what concerns the experiment's life go where comet_ml 3.58.8 sends them;
the public REST interface, which takes one number a request, gets the rest. Every call but
`metrics` and `notify` may be repeated.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import JsonValue
from pydantic_core import to_json

from bus import UnavailableError
from sinks._comet_plan import MOST, Item, Kind, Upload
from sinks._comet_rates import Rates
from sinks._comet_remote import Beat, RemoteExperiment, interval, remote
from sinks._comet_values import compact
from sinks._http import HttpClient
from sinks._json_answers import mapping

CLIENT: Final = "3.58.8"
"""The version of Comet's client whose requests these are; Comet may refuse old ones."""

_REST: Final = "/api/rest/v2/"
_WRITE: Final = "/api/rest/v2/write/experiment/"
_SIGNED: Final = 3 * 3600
"""Seconds for which the addresses of parts shall be good, as its client asks."""


class CometServer:
    """Comet, or an installation of one's own.

    Args:
        http: The client of the sink.
        root: The server's address without a path.
        clientlib: The address for its own client, without a slash at the end.
        api_key: The key, which these calls want in their bodies too.

    Attributes:
        most: Points in a request.
        rates: Makes calls wait for their turn.
    """

    def __init__(self, http: HttpClient, root: str, clientlib: str, api_key: str) -> None:
        self.most = MOST
        self.rates = Rates()
        self.root = root
        self._clientlib = clientlib
        self._http = http
        self._key = api_key

    async def version(self) -> str:
        """What the server says it is."""
        answer = await self._http.get(f"{self._clientlib}/isAlive/ver", timeout=10.0)
        return str(mapping(answer.json()).get("version", ""))[:40]

    async def account(self) -> str:
        """The account's workspaces, which shows whether the key is good."""
        answer = await self._http.get(f"{self.root}{_REST}workspaces")
        names = mapping(answer.json()).get("workspaceNames")
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
        return remote(key, await self._post(f"{self._clientlib}/logger/add/run", body))

    async def get_run(self, key: str) -> RemoteExperiment:
        """Go on with an experiment."""
        body: Item = {
            "apiKey": self._key,
            "local_timestamp": _now(),
            "previousExperiment": key,
            "libVersion": CLIENT,
        }
        return remote(key, await self._post(f"{self._clientlib}/logger/get/run", body))

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
        answer = await self._post(f"{self._clientlib}/status-report/update", body)
        wished = interval(answer.get("is_alive_beat_duration_millis"))
        return Beat(wished, bool(answer.get("pending_rpcs")))

    async def stopped_by(self, key: str) -> str | None:
        """Who pressed the stop button since it was asked last; None if nobody did."""
        address = f"{self._clientlib}/rpc/get-pending-rpcs"
        answer = await self._http.get(address, params={"experimentKey": key})
        calls = mapping(answer.json()).get("remoteProcedureCalls")
        for call in calls if isinstance(calls, list) else []:
            found = mapping(call)
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
        await self._write("update-status", body)

    async def other(self, key: str, name: str, value: JsonValue) -> None:
        """Set a single value."""
        body: Item = {"experimentKey": key, "key": name, "value": value}
        await self._write("log-other", body)

    async def tags(self, key: str, tags: Sequence[str]) -> None:
        """Add tags."""
        body: Item = {"experimentKey": key, "addedTags": list(tags)}
        await self._write("tags", body)

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
        await self._post(f"{self._clientlib}/notification/experiment", body, kind="else")

    async def mark_not_throttled(self, key: str) -> None:
        """Take away the warning that data is missing, when all of it has come."""
        await self._write(f"{key}/mark-not-throttled", {})

    def upload_url(
        self, experiment: RemoteExperiment, upload: Upload, name: str, number: str
    ) -> str:
        """Where to upload a file.

        Args:
            experiment: The experiment.
            upload: What the file is of.
            name: Its name there.
            number: Its id, by which Comet recognises it if it comes again.
        """
        query = {
            "experimentId": experiment.key,
            "projectId": experiment.project_id,
            "runId": experiment.run_id,
            "overwrite": "false",
            **extension(upload, name),
        }
        call = "asset/upload"
        if upload.kind == "visualization":
            call = "visualizations/upload"
            query |= {"imageId": number, "figName": name, "figCounter": "0"}
        else:
            query |= {"assetId": number, "fileName": name, "type": upload.kind}
        if upload.group:
            query["groupingName"] = upload.group
        if upload.step is not None:
            query["step"] = str(upload.step)
        return f"{self._clientlib}/{call}?{urlencode(query, quote_via=quote)}"

    async def begin_parts(
        self, experiment: RemoteExperiment, upload: Upload, name: str, number: str, count: int
    ) -> tuple[str, list[str]]:
        """Ask for an upload in so many parts: its id, and where each of them is to be put.

        Raises:
            AlreadyThereError: The file is there.
        """
        body: Item = {
            "startUploadParams": {
                "cloudType": "AWS",
                "preSignUrlTimeoutSec": _SIGNED,
                "numOfFileParts": count,
            },
            "experimentId": experiment.key,
            "projectId": experiment.project_id,
            "runId": experiment.run_id,
            "assetId": number,
            "fileName": name,
            "type": upload.kind,
            "overwrite": False,
            "context": None,
            **extension(upload, name),
        }
        if upload.group:
            body["groupingName"] = upload.group
        if upload.step is not None:
            body["step"] = upload.step
        if upload.metadata:
            body["metadata"] = compact(upload.metadata)
        url = f"{self._clientlib}/asset/upload-start"
        answer = await self._post(url, body, kind="else")
        urls = answer.get("preSignUrl")
        if not isinstance(answer.get("requestId"), str) or not isinstance(urls, list):
            raise UnavailableError("the answer of Comet names no places for parts")
        return str(answer["requestId"]), [str(each) for each in urls]

    async def end_parts(self, request_id: str, size: int, tags: Sequence[str]) -> None:
        """Have the parts put together; `tags` are what storage calls them, in order."""
        parts: list[JsonValue] = [
            {"ETag": tag, "PartNumber": place} for place, tag in enumerate(tags, start=1)
        ]
        body: Item = {
            "requestId": request_id,
            "succeed": True,
            "fileSize": size,
            "uploadedFileParts": parts,
        }
        await self._post(f"{self._clientlib}/asset/upload-complete", body, kind="else")

    async def _read(self, call: str, key: str) -> Mapping[str, JsonValue]:
        await self.rates.room("else")
        answer = await self._http.get(f"{self.root}{_REST}{call}", params={"experimentKey": key})
        return mapping(answer.json())

    async def _write(self, call: str, body: Item) -> Mapping[str, JsonValue]:
        return await self._post(f"{self.root}{_WRITE}{call}", body, kind="else")

    async def _batch(
        self, path: str, key: str, name: str, items: Sequence[Item], **more: JsonValue
    ) -> None:
        body: Item = {"experimentKey": key, name: list(items), **more}
        await self._post(f"{self._clientlib}/{path}", body, gzip=True)

    async def _post(
        self, url: str, body: Item, *, kind: Kind | None = None, gzip: bool = False
    ) -> Mapping[str, JsonValue]:
        if kind is not None:
            await self.rates.room(kind)
        headers = {"content-type": "application/json;charset=utf-8"}
        answer = await self._http.post(url, content=to_json(body), headers=headers, gzip=gzip)
        return mapping(answer.json())


def extension(upload: Upload, name: str) -> dict[str, str]:
    """A file's extension as part of a query; {} if it has none."""
    named = name if "." in name or upload.source is None else upload.source
    found = os.path.splitext(named)[1].lstrip(".")  # noqa: PTH122 - a name there
    return {"extension": found} if found else {}


def _now() -> int:
    """The time of a request that no event is behind, in milliseconds since 1970."""
    return int(time.time() * 1000)
