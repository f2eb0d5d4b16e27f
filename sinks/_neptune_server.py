"""The calls of Neptune's 2.x interface that a run needs, as its own client makes them.

Every call may be repeated: a run is made under an id of our own, by which the server knows it, and
a point that a series has already is refused by itself. Access tokens are exchanged for the API
token anew before they end, or when the server knows one no longer.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Unpack
from urllib.parse import urlencode

from pydantic import JsonValue

from bus import MisconfiguredError, RejectedError
from sinks._answers import Answer
from sinks._http import HttpClient
from sinks._json_answers import mapping, text
from sinks._neptune_answers import AccessRefusedError, Refusal, refusals
from sinks._neptune_settings import NeptuneSettings
from sinks._neptune_values import Operation
from sinks._requests import RequestOptions
from sinks._web_token import expiry

_BACKEND: Final = "/api/backend/v1/"
_BOARD: Final = "/api/leaderboard/v1/"
_SIGNALS: Final = "/api/notifications/v1/runs/"
_SPARE: Final = 30.0
"""Seconds before its end at which an access token is exchanged, as Neptune's own client does."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the server has it."""

    id: str
    name: str
    workspace: str


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run as the server has it.

    Attributes:
        id: By which requests name it.
        short_id: By which people do, such as DEM-1.
        trashed: Whether somebody threw it away.
    """

    id: str
    short_id: str
    trashed: bool


class NeptuneServer:
    """A server that speaks Neptune's 2.x interface.

    Args:
        http: The client of the sink.
        settings: Where it is, and who asks.
    """

    def __init__(self, http: HttpClient, settings: NeptuneSettings) -> None:
        self._http = http
        self._settings = settings
        self._address = settings.address
        self._access = ""
        self._good_until: float | None = None

    async def project(self) -> Project:
        """The project of the settings.

        Raises:
            MisconfiguredError: There is none that these credentials may see, or it is too old.
        """
        identifier = self._settings.project
        answer = await self._call(
            "GET", f"{_BACKEND}projects/get", params={"projectIdentifier": identifier}
        )
        found = mapping(answer.json())
        version = found.get("version")
        if isinstance(version, int) and version < 2:
            raise MisconfiguredError(
                f"the project {identifier} is of version {version}", fix="migrate it to version 2"
            )
        workspace, _, name = identifier.partition("/")
        return Project(
            text(found, "id"),
            str(found.get("name") or name),
            str(found.get("organizationName") or workspace),
        )

    async def create(self, project: Project, custom_id: str) -> RemoteRun:
        """Make a run, or get the one that has been made under this id."""
        body: Operation = {
            "projectIdentifier": project.id,
            "parentId": project.id,
            "type": "run",
            "cliVersion": _version(),
            "gitInfo": None,
            "customId": custom_id,
        }
        return _run((await self._call("POST", f"{_BOARD}experiments", json=body)).json())

    async def run(self, identifier: str) -> RemoteRun:
        """A run by its id, or as workspace/project/short id."""
        answer = await self._call(
            "GET", f"{_BOARD}experiments", params={"experimentId": identifier}
        )
        return _run(answer.json())

    async def operate(
        self, run_id: str, project: Project, operations: list[Operation]
    ) -> list[Refusal]:
        """Apply operations; what the server refuses of them keeps none of the others back."""
        params = {"experimentId": run_id}
        if self._settings.dialect == "minfx":
            params["organizationName"] = project.workspace
        body: JsonValue = list(operations)
        url = f"{_BOARD}attributes/operations"
        answer = await self._call("POST", url, params=params, json=body)
        return list(refusals(answer.json()))

    async def ping(self, run_id: str) -> None:
        """Say that the run is alive."""
        params = {"experimentId": run_id}
        await self._call("POST", f"{_BOARD}attributes/ping", params=params)

    async def config(self) -> Mapping[str, JsonValue]:
        """What the server tells its clients about itself."""
        answer = await self._http.get(
            f"{self._address.api}{_BACKEND}clients/config",
            params={"alpha": "true"},
            headers=self._api_token,
        )
        return mapping(answer.json())

    async def post(self, call: str, params: Mapping[str, str]) -> Mapping[str, JsonValue]:
        """Make a call about files."""
        return stored(await self._call("POST", f"{_BOARD}attributes/storage/{call}", params=params))

    async def upload(
        self,
        call: str,
        params: Mapping[str, str],
        path: Path,
        *,
        length: int,
        offset: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send bytes of a file."""
        url = f"{self._address.api}{_BOARD}attributes/storage/{call}?{urlencode(params)}"
        given = {"content-type": "application/octet-stream", **(headers or {})}

        async def send(access: str) -> Answer:
            allowed = {**given, "authorization": access}
            return await self._http.upload(
                "POST", url, path, headers=allowed, offset=offset, length=length
            )

        stored(await self._admitted(send))

    async def upload_part(
        self, call: str, params: Mapping[str, str], path: Path, span: range, size: int
    ) -> None:
        """Send one part of a file that has so many bytes."""
        headers = {"x-range": f"bytes={span.start}-{span.stop - 1}/{size}"}
        await self.upload(call, params, path, offset=span.start, length=len(span), headers=headers)

    async def signals(self, project: Project, run_id: str) -> tuple[str, dict[str, str]]:
        """The address and the headers of the web socket over which the stop button speaks."""
        url = f"{self._address.api}{_SIGNALS}{project.id}/{run_id}/signal"
        return url, {"authorization": await self.access()}

    def page(self, project: Project, run: RemoteRun) -> str:
        """Where a person can look at a run."""
        return f"{self._address.pages}/{project.workspace}/{project.name}/e/{run.short_id}"

    async def access(self) -> str:
        """The value of the header that lets us in."""
        ends = self._good_until
        if not self._access or (ends is not None and time.time() > ends - _SPARE):
            await self._exchange()
        return self._access

    async def _call(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Answer:
        url = f"{self._address.api}{path}"

        async def send(access: str) -> Answer:
            options["headers"] = {"authorization": access}
            return await self._http.request(method, url, **options)

        return await self._admitted(send)

    async def _admitted(self, send: Callable[[str], Awaitable[Answer]]) -> Answer:
        """Send with the access token, and once more with another one if that is refused."""
        known = self._access
        try:
            return await send(await self.access())
        except AccessRefusedError:
            if self._access != known:  # it was exchanged for this very request
                raise
        self._access = ""
        return await send(await self.access())

    async def _exchange(self) -> None:
        url = f"{self._address.api}{_BACKEND}authorization/oauth-token"
        answer = await self._http.get(url, headers=self._api_token)
        token = text(mapping(answer.json()), "accessToken")
        self._access, self._good_until = f"Bearer {token}", expiry(token)

    @property
    def _api_token(self) -> dict[str, str]:
        return {"x-neptune-api-token": self._settings.api_token.get_secret_value().strip()}


def stored(answer: Answer) -> Mapping[str, JsonValue]:
    """The answer to a request about files, if it has no errors in it.

    Raises:
        RejectedError: It has.
        UnavailableError: It is none of a Neptune server.
    """
    told = answer.json() if answer.body else None
    if told is None:  # as earlier servers say that there are no errors
        return {}
    found = mapping(told)
    if errors := found.get("errors") or found.get("errorDescription"):
        raise RejectedError(f"the Neptune server did not store it: {str(errors)[:500]}")
    return found


def _run(value: JsonValue) -> RemoteRun:
    found = mapping(value)
    return RemoteRun(text(found, "id"), text(found, "shortId"), found.get("trashed") is True)


def _version() -> str:
    try:
        return f"hotloop-{metadata.version('hotloop')}"
    except metadata.PackageNotFoundError:
        return "hotloop-0"
