"""Brings files and folders to attributes of a run, whole or in parts, from disk.

A file that the server refuses for good, or that is gone, is one warning and never holds up what
stands behind it. What the server does not answer is tried again with the batch.
"""

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from anyio import to_thread

from bus import RejectedError, UnavailableError
from sinks._held_files import HeldFiles
from sinks._json_answers import mapping, text
from sinks._neptune_plan import Upload
from sinks._neptune_server import NeptuneServer

log = logging.getLogger("sinks")

_MEGABYTE: Final = 1 << 20
_LARGEST_IMAGE: Final = 32 << 20
"""Bytes of an image in a series; Neptune's own client sends no larger ones."""
_TRIES: Final = 5
"""How often a part is tried before the server is asked for another upload."""


class Done(Protocol):
    """Told how many files of a folder have had their turn, and whether the last one is stored."""

    async def __call__(self, count: int, *, stored: bool) -> None: ...


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


@dataclass(slots=True)
class Parted:
    """An upload in parts that is under way.

    Attributes:
        file: Which file's, and where to.
        id: The server's name for it.
        done: How many parts are stored.
        in_vain: Tries since then.
    """

    file: tuple[Path, int, Mapping[str, str]]
    id: str
    done: int = 0
    in_vain: int = 0


class Files:
    """The files of one run.

    Args:
        server: The server.
        run_id: The run.
    """

    def __init__(self, server: NeptuneServer, run_id: str) -> None:
        self._server = server
        self._run_id = run_id
        self._parts: Parts | None = None
        self._parted: Parted | None = None
        self._held = HeldFiles()

    async def store(self, upload: Upload, *, skip: int, done: Done) -> None:
        """Store a file, or every file of a folder.

        Args:
            upload: What, and where to.
            skip: How many files of the folder have had their turn already.
            done: Called after each of the others.

        Raises:
            DeliveryError: The server cannot be reached, or lets nobody in.
        """
        files = await self._held.find(Path(upload.source))
        if not files and not skip:
            log.warning("%s is gone, so it was not uploaded to Neptune", upload.source)
            await done(1, stored=False)
        for count, file in enumerate(files[skip:], start=skip + 1):
            place = None if upload.place is None else file.below(upload.place)
            await done(count, stored=await self._try(file.path, upload.attribute, place))
        self.release()

    def release(self) -> None:
        """Let go of the folder that is being uploaded."""
        self._held.release()

    async def _try(self, path: Path, attribute: str, place: str | None) -> bool:
        try:
            await self._put(path, attribute, place)
        except RejectedError as error:
            log.warning("%s was not stored in Neptune: %s", path, error)
            return False
        return True

    async def _put(self, path: Path, attribute: str, place: str | None) -> None:
        size = await to_thread.run_sync(_size, path, abandon_on_cancel=True)
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
        await self._server.upload(call, given | more, path, length=size)

    async def _put_parts(
        self, path: Path, size: int, call: str, given: dict[str, str], more: dict[str, str]
    ) -> None:
        """Store a file in parts, behind those that a try has stored which broke off."""
        file = (path, size, given)
        parted = self._parted
        self._parted = None
        if parted is None or parted.file != file:
            begin = given | more | {"totalLength": str(size)}
            started = await self._server.post(f"{call}/start", begin)
            parted = Parted(file, text(started, "uploadId"))
        given = given | {"uploadId": parted.id}
        step = (await self._limits()).size(size)
        try:
            for index in range(parted.done, -(-size // step)):
                part = given | {"uploadPartIdx": str(index)}
                span = range(index * step, min(size, (index + 1) * step))
                await self._server.upload_part(f"{call}/part", part, path, span, size)
                parted.done, parted.in_vain = index + 1, 0
            await self._server.post(f"{call}/finish", given)
        except UnavailableError:
            parted.in_vain += 1
            self._parted = parted if parted.in_vain < _TRIES else None
            raise

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


async def image(source: str) -> str | None:
    """The content of an image in base64; None, with a warning, if it is gone or too large."""
    content = await to_thread.run_sync(_image, Path(source), abandon_on_cancel=True)
    if content is None:
        log.warning("%s was not stored in Neptune: it is gone, or has more than 32 MB", source)
    return content


def _image(source: Path) -> str | None:
    try:
        if source.stat().st_size > _LARGEST_IMAGE:
            return None
        return base64.b64encode(source.read_bytes()).decode()
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise RejectedError(f"{path} cannot be read: {error.strerror}") from error
