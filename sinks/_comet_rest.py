"""The calls that a run needs, by Comet's documented REST interface alone.

It takes one number a request and 15,000 requests an hour from an account, gives experiments keys of
its own, and knows neither a stop button nor an upload that comes again.
"""

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import JsonValue

from sinks._comet_plan import Item, Upload
from sinks._comet_rates import Rates
from sinks._comet_remote import Beat, RemoteExperiment, interval, public
from sinks._comet_server import CometServer, extension
from sinks._http import HttpClient
from sinks._json_answers import text

_HOUR: Final = 3600.0
_REQUESTS: Final = 15_000
_VALUES: Final = frozenset({"metricValue", "parameterValue"})


class RestServer(CometServer):
    """Comet as its REST interface shows it; arguments as those of `CometServer`."""

    def __init__(self, http: HttpClient, root: str, clientlib: str, api_key: str) -> None:
        super().__init__(http, root, clientlib, api_key)
        self.most = 1
        self.rates = Rates({"else": _REQUESTS}, _HOUR)

    async def add_run(
        self, key: str, project: str | None, workspace: str | None, *, existing: bool
    ) -> RemoteExperiment:
        """Make an experiment, whose key is Comet's and not the one that is given."""
        del key, existing
        body: Item = {"workspaceName": workspace, "projectName": project or "general"}
        answer = await self._write("create", body)
        return public(text(answer, "experimentKey"), answer.get("link"))

    async def get_run(self, key: str) -> RemoteExperiment:
        """Go on with an experiment."""
        found = await self._read("experiment/metadata", key)
        place = f"{found.get('workspaceName')}/{found.get('projectName')}"
        return public(key, f"{self.root}/{quote(place)}/{key}")

    async def beat(self, experiment: RemoteExperiment, *, alive: bool) -> Beat:
        """Tell that the run lives; that it is over is for `update_status` to tell."""
        if not alive:
            return Beat(interval(None), calls=False)
        answer = await self._read("write/experiment/set-status", experiment.key)
        return Beat(interval(answer.get("isAliveBeatDurationMillis")), calls=False)

    async def parameters(self, key: str, items: Sequence[Item]) -> None:
        """Set parameters."""
        for item in items:
            await self._write("parameter", {"experimentKey": key, **_worded(item)})

    async def metrics(self, key: str, items: Sequence[Item]) -> None:
        """Append points."""
        for item in items:
            await self._write("metric", {"experimentKey": key, **_worded(item)})

    async def output(self, key: str, lines: Sequence[Item]) -> None:
        """Write console lines."""
        body: Item = {"experimentKey": key, "runContext": None, "outputLines": list(lines)}
        await self._write("output", body)

    def upload_url(
        self, experiment: RemoteExperiment, upload: Upload, name: str, number: str
    ) -> str:
        """Where to upload a file, which gets an id of Comet's."""
        del number
        query = {
            "experimentKey": experiment.key,
            "fileName": name,
            "type": "image" if upload.kind == "visualization" else upload.kind,
            "overwrite": "false",
            **extension(upload, name),
        }
        if upload.group:
            query["groupingName"] = upload.group
        if upload.step is not None:
            query["step"] = str(upload.step)
        return f"{self.root}/api/rest/v2/write/experiment/upload-asset?{urlencode(query)}"


def _worded(item: Item) -> Item:
    """An item with its value as text, without what it has not and what this interface lacks."""
    return {
        name: _text(value) if name in _VALUES else value
        for name, value in item.items()
        if name in _VALUES or (value is not None and name != "source")
    }


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
