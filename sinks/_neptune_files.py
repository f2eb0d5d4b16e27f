"""Brings files and folders to attributes of a run, whole or in parts, from disk.

A file that the server refuses for good, or that is gone, is one warning and never holds up what
stands behind it. What the server does not answer is tried again with the batch.
"""

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread

from bus import FolderHold, RejectedError
from sinks._http import HttpClient
from sinks._neptune_plan import Upload
from sinks._neptune_server import NeptuneServer, mapping, stored, text

log = logging.getLogger("sinks")

_MEGABYTE: Final = 1 << 20

Done = Callable[[int], Awaitable[None]]
"""Told how many files of a folder are stored."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server says of uploads in parts; bytes.

    Attributes:
        single: The largest file that may come in one request.
        smallest: The smallest part but the last one.
        count: The most parts of one file.
    """

    single: int = 5 * _MEGABYTE
    smallest: int = 5 * _MEGABYTE
    count: int = 1000

    def size(self, total: int) -> int:
        """Bytes of each part of a file but the last one."""
        return max(self.smallest, -(-total // self.count))


class Files:
    """The files of one run.

    Args:
        http: The client of the sink.
        server: The server.
        run_id: The run.
    """

    def __init__(self, http: HttpClient, server: NeptuneServer, run_id: str) -> None:
        self._http = http
        self._server = server
        self._run_id = run_id
        self._parts: Parts | None = None
        self._held: FolderHold | None = None

    async def store(self, upload: Upload, *, skip: int, done: Done) -> None:
        """Store a file, or every file of a folder.

        Args:
            upload: What, and where to.
            skip: How many files of the folder are stored already.
            done: Called after each file of a folder.

        Raises:
            DeliveryError: The server cannot be reached, or lets nobody in.
        """
        self._hold(Path(upload.source))
        files = await to_thread.run_sync(_files, Path(upload.source), abandon_on_cancel=True)
        if not files:
            log.warning("%s is gone, so it was not uploaded to Neptune", upload.source)
        for count, (path, inner, size) in enumerate(files, start=1):
            if count <= skip:
                continue
            place = None
            if upload.place is not None:
                place = f"{upload.place}/{inner}" if inner else upload.place
            try:
                await self._put(path, size, upload.attribute, place)
            except RejectedError as error:
                log.warning("%s was not stored in Neptune: %s", path, error)
            await done(count)
        self.release()

    def release(self) -> None:
        """Let go of the folder that is being uploaded."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def _hold(self, source: Path) -> None:
        """Keep a folder from rotation until all of it is stored, however often that is tried."""
        if self._held is not None and self._held.path == source:
            return
        self.release()
        with contextlib.suppress(OSError):  # a file, or nothing
            self._held = FolderHold(source)

    async def _put(self, path: Path, size: int, attribute: str, place: str | None) -> None:
        given = {"experimentIdentifier": self._run_id, "attribute": attribute}
        call = "file/upload"
        more = {"ext": path.suffix.removeprefix(".")}
        if place is not None:
            call, more = "fileset/upload", {"subPath": place}
            given |= more
        parts = await self._limits()
        if size > parts.single:
            await self._put_parts(path, size, call, given, {} if place is not None else more)
            return
        url, headers = await self._server.file_request(call, given | more)
        stored(await self._http.upload("POST", url, path, headers=headers, length=size))

    async def _put_parts(
        self, path: Path, size: int, call: str, given: dict[str, str], more: dict[str, str]
    ) -> None:
        begin = given | more | {"totalLength": str(size)}
        upload_id = text(await self._server.post(f"{call}/start", begin), "uploadId")
        given = given | {"uploadId": upload_id}
        step = (await self._limits()).size(size)
        for index, offset in enumerate(range(0, size, step)):
            length = min(step, size - offset)
            part = given | {"uploadPartIdx": str(index)}
            url, headers = await self._server.file_request(f"{call}/part", part)
            headers["x-range"] = f"bytes={offset}-{offset + length - 1}/{size}"
            stored(
                await self._http.upload(
                    "POST", url, path, headers=headers, offset=offset, length=length
                )
            )
        await self._server.post(f"{call}/finish", given)

    async def _limits(self) -> Parts:
        """What the server takes at once; asked for with the first file."""
        if self._parts is None:
            told = mapping((await self._server.config()).get("multiPartUpload") or {})
            usual = Parts()

            def number(name: str, default: int) -> int:
                value = told.get(name)
                return value if isinstance(value, int) and value > 0 else default

            self._parts = Parts(
                number("maxSinglePartSize", usual.single),
                number("minChunkSize", usual.smallest),
                number("maxChunkCount", usual.count),
            )
        return self._parts


def _files(source: Path) -> list[tuple[Path, str, int]]:
    """A file, or the files of a folder in a fixed order: the path, the place inside, the bytes."""
    if source.is_file():
        return [(source, "", source.stat().st_size)]
    found: list[tuple[Path, str, int]] = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                found.append((path, path.relative_to(source).as_posix(), path.stat().st_size))
    return found
