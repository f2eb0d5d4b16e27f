"""Commits files to a DagsHub repository, one at a time and straight from the disk.

`PUT /api/v1/repos/OWNER/NAME/content/BRANCH/FOLDER` takes a multipart form with the fields that
DagsHub's own client sends (recorded from version 0.7.3); the file is versioned with DVC. A file
that is the same already makes no new version.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from typing_extensions import override

from sinks._http import HttpClient
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_server import MlflowServer

_FOLDER = "artifacts"
_SUMMARY = 100
"""Characters of a commit's summary at most."""


class RepositoryFiles(Artifacts):
    """The files of a run, which go to the repository; its texts go to MLflow.

    Args:
        http: The client of the sink.
        server: The tracking server.
        base: The tracking server's address.
        artifact_uri: Where the server says that the run's texts are.
        repository: The address of the repository in DagsHub's interface.
        branch: What to commit to.
        headers: Who commits.
    """

    def __init__(  # noqa: PLR0913 - those of its base, and three
        self,
        http: HttpClient,
        server: MlflowServer,
        base: str,
        artifact_uri: str,
        *,
        repository: str,
        branch: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(http, server, base, artifact_uri)
        self._commits = http
        self._content = f"{repository}/content/{quote(branch, safe='')}"
        self._headers = headers

    @override
    async def _put_file(self, place: str, source: Path) -> None:
        folder, _, name = f"{_FOLDER}/{place}".rpartition("/")
        boundary = f"hotloop-{secrets.token_hex(16)}"
        fields = {
            "commit_choice": "direct",
            "commit_summary": f"{name} of a run"[:_SUMMARY],
            "versioning": "dvc",
            "last_commit": "",
            "is_dvc_dir": "true",
        }
        await self._commits.upload(
            "PUT",
            f"{self._content}/{quote(folder)}",
            source,
            headers={
                **self._headers,
                "content-type": f"multipart/form-data; boundary={boundary}",
            },
            frame=(_before(boundary, fields, name), f"\r\n--{boundary}--\r\n".encode()),
        )


def _before(boundary: str, fields: Mapping[str, str], filename: str) -> bytes:
    """A form up to the content of its file (RFC 7578; names as WHATWG's form encoding)."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    quoted = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode()
