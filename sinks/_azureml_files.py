"""Stores files of a run in an Azure ML workspace, straight in its storage.

The workspace is told a path and answers with an address that lets in whoever has it (recorded from
azureml-mlflow 1.62); there the file is put as one blob, or as blocks and a list of them where it is
big (REST interface of Azure's Blob Storage: Put Blob, Put Block, Put Block List).
"""

import base64
import re
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from anyio import to_thread

from bus import MisconfiguredError, RejectedError, UnavailableError
from sinks._http import HttpClient
from sinks._json_answers import inside
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_server import MlflowServer, RemoteRun

_PLACE: Final = re.compile(
    r".*/experiments/(?P<experiment>[^/]+)/runs/(?P<run>[^/]+)(/artifacts(/(?P<below>.*))?)?"
)
BLOCK: Final = 64 << 20
"""Bytes of a block; a file that is no longer is one blob. Azure takes 50,000 blocks."""
_VERSION: Final = {"x-ms-version": "2025-11-05"}


class WorkspaceFiles(Artifacts):
    """The files of one run.

    Args:
        http: The client of the sink.
        server: The tracking server.
        history: The workspace's address for files.
        run: The run.
    """

    _name: ClassVar[str] = "Azure ML"

    def __init__(
        self, http: HttpClient, server: MlflowServer, history: str, run: RemoteRun
    ) -> None:
        super().__init__(http, server, history, run.artifact_uri)
        self._blobs = http
        found = _PLACE.fullmatch(run.artifact_uri)
        if found is not None:
            owner = f"experiments/{found['experiment']}/runs/{found['run']}"
            self._below = f"{found['below']}/" if found["below"] else ""
        else:
            owner = f"experimentids/{quote(run.experiment_id)}/runs/{quote(run.run_id)}"
            self._below = ""
        self._metadata = f"{history}/{owner}/artifacts/batch/metadata"
        # A path that was made known is refused the second time, so its address serves a retry.
        self._known: dict[str, str] = {}

    async def _put_text(self, place: str, text: str) -> None:
        uri = await self._address(place)
        content = text.encode("utf-8", "replace")
        await self._put_blob(place, uri, content)

    async def _put_file(self, place: str, source: Path) -> None:
        uri = await self._address(place)
        size = (await to_thread.run_sync(source.stat)).st_size
        if size <= BLOCK:
            await self._put_blob(place, uri, source)
        else:
            await self._put_blocks(place, uri, source, size)

    async def _address(self, place: str) -> str:
        """Where a file goes; good for some hours.

        Raises:
            RejectedError: The workspace says why there is none.
        """
        path = self._below + place
        if path in self._known:
            return self._known[path]
        answer = await self._blobs.post(self._metadata, json={"paths": [{"path": path}]})
        found = answer.json()
        refused = inside(found, "errors").get(path)
        if refused is not None:
            raise RejectedError(f"Azure ML refuses {path}: {refused}")
        address = inside(found, "artifactContentInformation", path).get("contentUri")
        if not isinstance(address, str):
            raise UnavailableError("the workspace's answer holds no address")
        self._known = {path: address}
        return address

    async def _put_blob(self, place: str, uri: str, content: bytes | Path) -> None:
        headers = {
            **_VERSION,
            "x-ms-blob-type": "BlockBlob",
            "content-type": "application/octet-stream",
        }
        await self._stored(place, uri, content, headers)

    async def _put_blocks(self, place: str, uri: str, source: Path, size: int) -> None:
        names: list[str] = []
        for offset in range(0, size, BLOCK):
            name = base64.b64encode(f"{len(names):032d}".encode()).decode()
            names.append(name)
            part = f"{uri}&comp=block&blockid={quote(name, safe='')}"
            length = min(BLOCK, size - offset)
            await self._stored(place, part, source, _VERSION, offset=offset, length=length)
        listed = "".join(f"<Latest>{name}</Latest>" for name in names)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'
        headers = {**_VERSION, "x-ms-blob-content-type": "application/octet-stream"}
        await self._stored(place, f"{uri}&comp=blocklist", body.encode(), headers)

    async def _stored(
        self,
        place: str,
        uri: str,
        content: bytes | Path,
        headers: dict[str, str],
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> None:
        """Put something into the storage, which is not shown the workspace's token.

        Raises:
            RejectedError: It lets nobody in by this address, which is no matter of the run's.
        """
        try:
            if isinstance(content, bytes):
                await self._blobs.put(uri, content=content, headers=headers)
            else:
                await self._blobs.upload(
                    "PUT", uri, content, headers=headers, offset=offset, length=length
                )
        except MisconfiguredError as error:
            self._known.clear()
            raise RejectedError(f"the storage does not take {place}: {error}") from error
