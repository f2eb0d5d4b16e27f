"""Brings files and texts among a run's artifacts, through the server or beside it.

A file that cannot be stored is one warning and never holds up the metrics behind it. What the
server does not answer is tried again with the batch.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from anyio import to_thread

from bus import RejectedError
from sinks._held_files import HeldFiles
from sinks._http import HttpClient
from sinks._mlflow_answers import ArtifactsDisabledError
from sinks._mlflow_names import UnsafePathError, legal_path
from sinks._mlflow_plan import Upload
from sinks._mlflow_server import MlflowServer

log = logging.getLogger("sinks")

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Done: TypeAlias = Callable[[int], Awaitable[None]]
"""Told how many files of a folder are stored."""

Files: TypeAlias = Sequence[tuple[str, Path]]
"""Places among the artifacts, and what goes there."""


class Artifacts:
    """The files of one run.

    Args:
        http: The client of the sink.
        server: The tracking server.
        base: The server's address.
        artifact_uri: Where the server says that the run's files are.
    """

    _name: ClassVar[str] = "MLflow"
    _what: ClassVar[str] = "files"
    """What the server is asked to store, and stores none of if it says so."""

    def __init__(
        self, http: HttpClient, server: MlflowServer, base: str, artifact_uri: str
    ) -> None:
        self._http = http
        self._server = server
        self._uri = artifact_uri
        self._beside = urlsplit(base).hostname in _LOCAL
        self._off = False
        self._held = HeldFiles()

    async def store(self, upload: Upload, *, skip: int, done: Done) -> None:
        """Store a file, every file of a folder, or a text.

        Args:
            upload: What, and where to.
            skip: How many files of the folder are stored already.
            done: Called after each file of a folder.

        Raises:
            RejectedError: The place is outside the run's artifacts.
            DeliveryError: The server cannot be reached, or lets nobody in.
        """
        try:
            target = legal_path(upload.target)
        except UnsafePathError as error:
            raise RejectedError(str(error), guilty=(upload.record,)) from error
        if upload.source is None:
            if not self._off:
                await self._guarded(target, partial(self._put_text, target, upload.text))
            return
        files = await self._held.find(Path(upload.source))
        if not files:
            self._gone(upload.source)
        places = [(each.below(target), each.path) for each in files]
        await self._put_files(places, skip=skip, done=done)
        self.release()

    def release(self) -> None:
        """Let go of the folder that is being uploaded."""
        self._held.release()

    def _gone(self, source: str) -> None:
        log.warning("%s is gone, so it was not uploaded to %s", source, self._name)

    async def _put_files(self, files: Files, *, skip: int, done: Done) -> None:
        """Store all but the first `skip` files, each by itself."""
        for count, (place, path) in enumerate(files, start=1):
            if self._off:
                return
            if count > skip:
                await self._guarded(place, partial(self._put_file, place, path))
                await done(count)

    async def _guarded(self, place: str, put: Callable[[], Awaitable[None]]) -> None:
        """Make one call; what the server refuses for good, or the disk, is a warning."""
        try:
            await put()
        except ArtifactsDisabledError as error:
            self._give_up(str(error))
        except (RejectedError, OSError) as error:
            log.warning("%s was not stored in %s: %s", place, self._name, error)

    async def _put_text(self, place: str, text: str) -> None:
        url = self._server.artifact_url(self._uri, place)
        content = text.encode("utf-8", "replace")
        if url is not None:
            headers = {"content-type": "application/octet-stream"}
            await self._http.put(url, content=content, headers=headers)
        elif (path := self._on_this_machine(place)) is not None:
            await to_thread.run_sync(_write, path, content)

    async def _put_file(self, place: str, source: Path) -> None:
        url = self._server.artifact_url(self._uri, place)
        if url is not None:
            headers = {"content-type": "application/octet-stream"}
            await self._http.upload("PUT", url, source, headers=headers)
        elif (path := self._on_this_machine(place)) is not None:
            await to_thread.run_sync(_copy, source, path, abandon_on_cancel=True)

    def _on_this_machine(self, place: str) -> Path | None:
        """Where a file goes that the server does not take; None if only it could reach that."""
        parts = urlsplit(self._uri)
        if self._beside and parts.scheme in ("", "file") and parts.path:
            return Path(unquote(parts.path)) / place
        self._give_up(
            f"its artifacts are at {parts.scheme or 'a path'}:..., which it does not serve"
        )
        return None

    def _give_up(self, why: str) -> None:
        if not self._off:
            what = (self._what, self._name)
            log.warning("%s are not uploaded to %s, everything else is: %s", *what, why)
        self._off = True


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
