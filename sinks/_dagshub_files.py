"""Commits files to a DagsHub repository, in the requests of DagsHub's own client.

The forms are recorded from its version 0.7.3, their options read in its source: `last_commit` says
what a commit is on top of, without which a file that is there already would not be replaced; a
commit that changes nothing is none. Everything is below one folder that DVC versions, as
Transformers' callback has it.
"""

import logging
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

import anyio
from anyio import to_thread
from pydantic import JsonValue

from bus import RejectedError, UnavailableError
from sinks._http import HttpClient
from sinks._json_answers import mapping
from sinks._mlflow_artifacts import Artifacts, Done, Files
from sinks._mlflow_server import MlflowServer

log = logging.getLogger("sinks")

FOLDER: Final = "artifacts"
_OVERTAKEN: Final = "invalid last_commit"
"""What the server says to a commit on top of one that is not the last any more."""
_SUMMARY: Final = 100
"""Characters that a commit's summary may have."""
_FILES: Final = 100
_BYTES: Final = 100 << 20
"""A commit is full with so many files or bytes."""
_SYNC: Final = 600.0
"""Seconds that a mirror gets to show the last commit before the next one is tried anyway."""


class Repository:
    """One branch of a repository, and commits to it.

    Args:
        http: The client of the sink.
        url: The repository in DagsHub's interface.
        branch: What is committed to.
        headers: Who commits.
    """

    def __init__(self, http: HttpClient, url: str, branch: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._branch = branch
        self._headers = headers
        self._about: Mapping[str, JsonValue] | None = None
        self._refused: str | None = None
        self._waits_for: tuple[str | None, float] | None = None

    async def commit(self, files: Files, summary: str) -> None:
        """Commit files to the folder; those that are there already are replaced."""
        head = await self._head(self._branch)
        self._check_mirror(head)
        branch, fields = self._branch, {"commit_choice": "direct"}
        if head is None:
            branch = str((await self._asked()).get("default_branch") or "main")
            fields = {"commit_choice": "commit-to-new-branch", "new_branch_name": self._branch}
        fields |= {
            "commit_summary": summary[:_SUMMARY],
            "versioning": "dvc",
            "last_commit": head or "",
            "is_dvc_dir": "true",
        }
        try:
            made = await self._put(branch, fields, files)
        except RejectedError as error:
            if _OVERTAKEN not in str(error) or head == self._refused:
                raise
            self._refused = head
            raise UnavailableError(f"somebody else has committed meanwhile: {error}") from error
        if made not in ("", head) and (await self._asked()).get("mirror"):
            self._waits_for = head, anyio.current_time() + _SYNC

    async def _put(self, branch: str, fields: Mapping[str, str], files: Files) -> str:
        """Send a form; the branch's last commit then, "" if the server does not say."""
        boundary = f"hotloop-{secrets.token_hex(16)}"
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        answer = await self._http.upload_joined(
            "PUT",
            f"{self._url}/content/{quote(branch)}/{FOLDER}",
            list(_form(boundary, fields, files)),
            headers={**self._headers, **kind},
        )
        return answer.headers.get("etag", "").strip('"')

    def _check_mirror(self, head: str | None) -> None:
        """A mirror shows a commit once the original repository has it; before that none is safe."""
        if self._waits_for is not None:
            before, deadline = self._waits_for
            if head == before and anyio.current_time() < deadline:
                raise UnavailableError("the mirrored repository does not show the last commit yet")
            self._waits_for = None

    async def _head(self, branch: str) -> str | None:
        """The last commit of a branch; None if there is no such branch."""
        answer = await self._http.get(
            f"{self._url}/branches/{quote(branch)}", headers=self._headers, good={404}
        )
        if answer.status == 404:
            return None
        commit = mapping(answer.json()).get("commit")
        return str(mapping(commit).get("id") or "")

    async def _asked(self) -> Mapping[str, JsonValue]:
        """What the repository says of itself, asked once."""
        if self._about is None:
            answer = await self._http.get(self._url, headers=self._headers)
            self._about = mapping(answer.json())
        return self._about


class RepositoryFiles(Artifacts):
    """The files of a run, which go to the repository; its texts go to MLflow.

    Args:
        http: The client of the sink.
        server: The tracking server.
        base: The tracking server's address.
        artifact_uri: Where the server says that the run's texts are.
        repository: What files are committed to.
        run: What the run is called.
    """

    _name: ClassVar[str] = "DagsHub"
    _what: ClassVar[str] = "texts"

    def __init__(
        self,
        http: HttpClient,
        server: MlflowServer,
        base: str,
        artifact_uri: str,
        *,
        repository: Repository,
        run: str,
    ) -> None:
        super().__init__(http, server, base, artifact_uri)
        self._repository = repository
        self._run = run

    def _gone(self, source: str) -> None:
        """Rotated away: only what is still there at the end is wanted."""
        log.debug("%s is gone, so it was not committed", source)

    async def _put_files(self, files: Files, *, skip: int, done: Done) -> None:
        count = skip
        # The same commits at each try: what is skipped has been whole commits.
        groups = await to_thread.run_sync(lambda: list(_groups(files[skip:])))
        for group in groups:
            named = [(_place(target), path) for target, path in group]
            what = named[0][0] if len(named) == 1 else named[0][0].partition("/")[0]
            summary = f"{what} of the run {self._run}"
            await self._guarded(what, partial(self._repository.commit, named, summary))
            count += len(group)
            await done(count)


def _place(target: str) -> str:
    """Checkpoints lie at the top, where Transformers' callback puts them."""
    return target.removeprefix("checkpoints/")


def _groups(files: Files) -> Iterator[Files]:
    """Files for one commit each; full with the last of so many files or bytes."""
    group: list[tuple[str, Path]] = []
    size = 0
    for place, path in files:
        group.append((place, path))
        size += path.stat().st_size if path.exists() else 0
        if len(group) >= _FILES or size >= _BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _form(boundary: str, fields: Mapping[str, str], files: Files) -> Iterator[bytes | Path]:
    """A multipart form (RFC 7578), its names escaped as WHATWG's form encoding has it."""
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        yield f"{head}\r\n\r\n{value}\r\n".encode()
    for place, path in files:
        quoted = place.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"'
        yield f"{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        yield path
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
