"""Brings checkpoints, artifacts and media to ClearML's file server, and tells the task of them.

A folder is sent as one archive, as ClearML's client does it. A file that cannot be stored is one
warning and never holds up the metrics behind it. What the server does not answer is tried again
with the batch.
"""

import hashlib
import logging
import mimetypes
import zipfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson
from anyio import to_thread
from pydantic import JsonValue

from bus import RejectedError
from sinks._answers import Answer
from sinks._clearml_plan import Upload
from sinks._clearml_server import ClearmlServer, RemoteTask
from sinks._clearml_values import safe_path
from sinks._held_files import HeldFiles, files_in
from sinks._http import HttpClient

log = logging.getLogger("sinks")

_BOUNDARY: Final = "hotloop-8d6f0c3b9a7e45d1b2c4"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive, so that the same folder makes the same one."""

Edit = Callable[[str, Mapping[str, JsonValue]], Awaitable[None]]
"""Changes the task, whatever its state."""


class Files:
    """The files of one task.

    Args:
        http: The client of the sink.
        server: The API server.
        task: The task.
        project: Its project's name.
        host: Address of the file server.
        packing: Where an archive may be made.
        edit: Changes the task.
    """

    def __init__(
        self,
        http: HttpClient,
        server: ClearmlServer,
        task: RemoteTask,
        *,
        project: str,
        host: str,
        packing: Path,
        edit: Edit,
    ) -> None:
        self._http = http
        self._server = server
        self._task = task
        self._folder = (project, f"{task.name.replace('/', '_')}.{task.task_id}")
        self._host = host
        self._packing = packing
        self._edit = edit
        self._held = HeldFiles()
        self._packed = False
        self._told = False

    async def store(self, upload: Upload) -> tuple[str, str] | None:
        """Store a file or a folder, and tell the task where it is.

        Returns:
            The id and the address of the model it became.

        Raises:
            DeliveryError: The server cannot be reached, or lets nobody in.
        """
        if not self._host.startswith(("http://", "https://")):
            self._tell_once(f"files are not uploaded: {self._host} is no ClearML file server")
            return None
        source = Path(upload.source)
        if self._held.hold(source):
            self._forget_archive()
        model = None
        try:
            model = await self._store(upload, source)
        except (RejectedError, OSError) as error:
            log.warning("%s was not stored in ClearML: %s", source, error)
        self.release()
        return model

    async def remove(self, model_id: str, uri: str) -> None:
        """Delete a model and its file.

        Raises:
            DeliveryError: As `store`.
        """

        async def send(good: Collection[int]) -> Answer:
            return await self._http.delete(uri, good=(*good, 404))

        await self._server.delete_model(model_id)
        try:
            await self._server.authorized(send)
        except RejectedError as error:
            log.warning("%s was not deleted: %s", uri, error)

    def release(self) -> None:
        """Let go of the folder that is being uploaded, and of its archive."""
        self._held.release()
        self._forget_archive()

    def _forget_archive(self) -> None:
        self._packed = False
        self._packing.unlink(missing_ok=True)

    def _tell_once(self, what: str) -> None:
        if not self._told:
            log.warning("%s; everything else goes to ClearML", what)
        self._told = True

    async def _store(self, upload: Upload, source: Path) -> tuple[str, str] | None:
        folder = await to_thread.run_sync(source.is_dir, abandon_on_cancel=True)
        name, path = source.name, source
        if folder:
            name, path = f"{source.name}.zip", self._packing
            if not self._packed:  # by an earlier try
                await to_thread.run_sync(_pack, source, path, abandon_on_cancel=True)
                self._packed = True
        # As ClearML's client, but that files of one name stay apart.
        own = () if upload.name in (source.name, source.stem) else (upload.name,)
        below = {
            "model": ("models", *own),
            "artifact": ("artifacts", upload.name),
            "media": ("metrics", upload.name),
        }[upload.kind]
        if upload.kind == "media":
            name = f"{upload.event['variant']}_{upload.step:08d}{source.suffix}"
        place = safe_path(*self._folder, *below, name.replace("/", "_"))
        uri = f"{self._host}{quote(place)}"
        await self._send(place, path)
        if upload.kind == "model":
            return await self._tell_model(upload, uri, package=folder), uri
        if upload.kind == "artifact":
            await self._tell_artifact(upload, uri, path, package=folder)
        else:
            event = upload.event | {"url": uri, "key": place}
            await self._server.send([orjson.dumps(event)])
        return None

    async def _send(self, place: str, path: Path) -> None:
        kind = mimetypes.guess_type(place)[0] or "application/octet-stream"
        head = (
            f"--{_BOUNDARY}\r\n"
            f'Content-Disposition: form-data; name="{place}"; filename="{place}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )

        async def send(good: Collection[int]) -> Answer:
            return await self._http.upload(
                "POST",
                f"{self._host}/",
                path,
                headers={"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
                frame=(head.encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()),
                good=good,
            )

        await self._server.authorized(send)

    async def _tell_model(self, upload: Upload, uri: str, *, package: bool) -> str:
        model_id = await self._server.model(self._task, upload.name, uri, package=package)
        body: dict[str, JsonValue] = {"name": upload.name, "model": model_id, "type": "output"}
        await self._edit("add_or_update_model", {**body, "iteration": upload.step})
        return model_id

    async def _tell_artifact(self, upload: Upload, uri: str, path: Path, *, package: bool) -> None:
        size, digest, changed = await to_thread.run_sync(_looked_at, path, abandon_on_cancel=True)
        kind = mimetypes.guess_type(uri)[0] or "application/octet-stream"
        artifact: dict[str, JsonValue] = {
            "key": upload.name,
            "type": "archive" if package else "custom",
            "mode": "output",
            "uri": uri,
            "content_size": size,
            "hash": digest,
            "timestamp": changed,
            "type_data": {"preview": Path(upload.source).name, "content_type": kind},
        }
        await self._edit("add_or_update_artifacts", {"force": True, "artifacts": [artifact]})


def _pack(source: Path, target: Path) -> None:
    """Make an archive of a folder; not compressed, since weights hardly shrink."""
    target.unlink(missing_ok=True)  # a thread that was abandoned may still write to it
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for each in files_in(source):
            info = zipfile.ZipInfo(each.inner, _EPOCH)
            with each.path.open("rb") as file, archive.open(info, "w", force_zip64=True) as into:
                while piece := file.read(1 << 20):
                    into.write(piece)


def _looked_at(path: Path) -> tuple[int, str, int]:
    """A file's size, SHA-256 and time of change."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = path.stat()
    return found.st_size, digest, int(found.st_mtime)
