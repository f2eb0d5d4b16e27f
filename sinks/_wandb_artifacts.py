"""Uploads a file or folder as a version of an artifact, and files of the run itself.

The server knows content by its digest: what it has is not sent again, and a version with the same
content is no new one. So an upload may be begun again at any time, and within a large file goes on
where it broke off. A folder is held from its first digest to its last byte, through a failed try.
"""

import hashlib
import logging
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from anyio import to_thread
from pydantic import JsonValue

from bus import RejectedError, UnavailableError
from sinks._held_files import HeldFiles
from sinks._http import HttpClient
from sinks._json_answers import inside
from sinks._values import compact
from sinks._wandb_contents import (
    Content,
    Parting,
    digest_of,
    in_base64,
    md5,
    read_contents,
)
from sinks._wandb_parts import PartedUploads
from sinks._wandb_plan import StoreFile
from sinks._wandb_queries import ARTIFACT, ARTIFACT_FILES, COMMIT, MANIFEST
from sinks._wandb_server import Place, WandbServer, headers_of
from sinks._wandb_state import Upload

log = logging.getLogger("sinks")

_AT_ONCE: Final = 100
"""Files asked for in one call."""
_PARTING: Final = Parting()


class Artifacts:
    """The uploads of one run.

    Args:
        http: The client of the sink.
        server: The server.
        place: Where the run is.
        parting: Which files are sent in parts.
    """

    def __init__(
        self, http: HttpClient, server: WandbServer, place: Place, parting: Parting = _PARTING
    ) -> None:
        self._http = http
        self._server = server
        self._place = place
        self._parting = parting
        self._parted = PartedUploads(http, server)
        self._held = HeldFiles()

    async def store_file(self, step: StoreFile) -> None:
        """Store a file among those of the run.

        Raises:
            DeliveryError: As `HttpClient.upload`.
        """
        url, headers = await self._server.run_file(self._place, step.name)
        kind = mimetypes.guess_type(step.name)[0]
        if kind is not None:
            headers.setdefault("content-type", kind)
        await self._http.upload("PUT", url, Path(step.path), headers=headers)

    async def store(self, upload: Upload) -> None:
        """Store a version of an artifact, unless it is there.

        Raises:
            RejectedError: There is nothing to upload, or the server does not want it.
            DeliveryError: The server cannot be reached, or lets nobody in.
        """
        source = Path(upload.path)
        self._held.hold(source)
        contents = await to_thread.run_sync(
            read_contents, source, self._parting, abandon_on_cancel=True
        )
        if not contents:
            self.release()
            raise RejectedError(f"{upload.path} is gone or empty, so it was not uploaded to W&B")
        artifact_id, base, committed = await self._create(upload, contents)
        if not committed:
            manifest = await self._manifest(artifact_id, base)
            births = await self._files(artifact_id, str(manifest.get("id")), contents)
            await self._finish(artifact_id, base, contents, births)
        self.release()

    def release(self) -> None:
        """Let go of the folder that is being uploaded."""
        self._held.release()

    async def _create(
        self, upload: Upload, contents: Sequence[Content]
    ) -> tuple[str, str | None, bool]:
        """Announce a version: its id, the version it follows, and whether it is there already."""
        digest, place = digest_of(contents), self._place
        made_by = f"{place.entity}/{place.project}/{place.run_id}/{upload.name}"
        aliases: list[JsonValue] = [
            {"artifactCollectionName": upload.name, "alias": alias} for alias in upload.aliases
        ]
        asked: dict[str, JsonValue] = {
            "entityName": place.entity,
            "projectName": place.project,
            "runName": place.run_id,
            "artifactTypeName": upload.kind,
            "artifactCollectionName": upload.name,
            "digest": digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "aliases": aliases,
            "metadata": upload.metadata,
            "enableDigestDeduplication": True,
            "clientID": _client_id(f"{made_by}:{digest}"),
            "sequenceClientID": _client_id(made_by),
        }
        data = await self._server.call("CreateArtifact", ARTIFACT, {"input": asked})
        artifact = inside(data, "createArtifact", "artifact")
        latest = inside(artifact, "artifactSequence", "latestArtifact").get("id")
        if not isinstance(artifact.get("id"), str):
            raise UnavailableError("CreateArtifact: the answer names no artifact")
        base = latest if isinstance(latest, str) else None
        return str(artifact["id"]), base, artifact.get("state") == "COMMITTED"

    async def _manifest(
        self, artifact_id: str, base: str | None, digest: str = ""
    ) -> Mapping[str, JsonValue]:
        """Announce the list of contents, and with its digest ask where to put it."""
        variables: dict[str, JsonValue] = {
            "artifactID": artifact_id,
            "baseArtifactID": base,
            "name": "wandb_manifest.json",
            "digest": digest,
            "entityName": self._place.entity,
            "projectName": self._place.project,
            "runName": self._place.run_id,
            "manifestType": "FULL",
            "includeUpload": bool(digest),
        }
        data = await self._server.call("CreateArtifactManifest", MANIFEST, variables)
        return inside(data, "createArtifactManifest", "artifactManifest")

    async def _files(
        self, artifact_id: str, manifest_id: str, contents: Sequence[Content]
    ) -> dict[str, str]:
        """Upload what the server does not have; for each file the artifact that brought it."""
        births: dict[str, str] = {}
        fresh: list[Content] = []
        for content in contents:
            born_in = self._parted.born_in(artifact_id, content)
            if born_in is None:
                fresh.append(content)
            else:
                births[content.name] = born_in
                await self._parted.go_on(artifact_id, content)
        for start in range(0, len(fresh), _AT_ONCE):
            part = fresh[start : start + _AT_ONCE]
            for content, node in zip(
                part, await self._places(artifact_id, manifest_id, part), strict=True
            ):
                born_in = str(inside(node, "artifact").get("id") or artifact_id)
                births[content.name] = born_in
                await self._put(artifact_id, content, node, born_in)
        return births

    async def _places(
        self, artifact_id: str, manifest_id: str, contents: Sequence[Content]
    ) -> list[dict[str, JsonValue]]:
        """Where the server wants each of these files."""
        files: list[JsonValue] = [
            {
                "artifactID": artifact_id,
                "artifactManifestID": manifest_id,
                "name": each.name,
                "md5": each.md5,
                **_parts(each),
            }
            for each in contents
        ]
        asked: dict[str, JsonValue] = {"artifactFiles": files, "storageLayout": "V2"}
        data = await self._server.call("CreateArtifactFiles", ARTIFACT_FILES, {"input": asked})
        edges = inside(data, "createArtifactFiles", "files").get("edges")
        nodes = [inside(each, "node") for each in (edges if isinstance(edges, list) else [])]
        if len(nodes) != len(contents):
            raise UnavailableError(f"places for {len(nodes)} of {len(contents)} files")
        return nodes

    async def _put(
        self, artifact_id: str, content: Content, node: Mapping[str, JsonValue], born_in: str
    ) -> None:
        headers = headers_of(node.get("uploadHeaders"))
        if node.get("uploadMultipartUrls"):
            self._parted.begin(artifact_id, content, node, headers, born_in)
            await self._parted.go_on(artifact_id, content)
        elif isinstance(url := node.get("uploadUrl"), str):  # otherwise the server has it
            await self._http.upload("PUT", url, content.path, headers=headers)

    async def _finish(
        self,
        artifact_id: str,
        base: str | None,
        contents: Sequence[Content],
        births: Mapping[str, str],
    ) -> None:
        """Upload the list of contents and make the version visible."""
        body = compact(
            {
                "version": 1,
                "storagePolicy": "wandb-storage-policy-v1",
                "storagePolicyConfig": {"storageLayout": "V2"},
                "contents": {
                    each.name: {
                        "digest": each.md5,
                        "size": each.size,
                        "birthArtifactID": births[each.name],
                        "skip_cache": False,
                    }
                    for each in contents
                },
            }
        ).encode()
        digest = in_base64(md5(body).digest())
        manifest = await self._manifest(artifact_id, base, digest)
        file = inside(manifest, "file")
        url = file.get("uploadUrl")
        if not isinstance(url, str):
            raise UnavailableError("CreateArtifactManifest: the answer names no address")
        await self._http.put(url, content=body, headers=headers_of(file.get("uploadHeaders")))
        await self._server.call("CommitArtifact", COMMIT, {"artifactID": artifact_id})


def _client_id(text: str) -> str:
    """128 characters that are the same at each try."""
    return hashlib.sha512(text.encode()).hexdigest()


def _parts(content: Content) -> dict[str, JsonValue]:
    """What is said of a file that is sent in parts."""
    parts: list[JsonValue] = [
        {"partNumber": number, "hexMD5": digest} for number, digest in enumerate(content.parts, 1)
    ]
    return {"uploadPartsInput": parts} if parts else {}
