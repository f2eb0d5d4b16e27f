"""Uploads large files to W&B's storage in parts, and goes on behind the parts that are there.

The addresses of parts are signed, so they are kept in memory and never in the cursor: whoever goes
on after this process asks for another upload. Storage may have ended one that is gone on with; then
it is forgotten, and the file begins again with the next try.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from bus import UnavailableError
from sinks._http import HttpClient
from sinks._resumed_uploads import gone_on_with
from sinks._wandb_contents import Content, in_base64
from sinks._wandb_queries import COMPLETE
from sinks._wandb_server import WandbServer


@dataclass(slots=True)
class _UnderWay:
    """An upload in parts; `tags` are what storage calls those that are there."""

    upload_id: JsonValue
    storage_path: str
    born_in: str
    urls: list[str]
    headers: Mapping[str, str]
    tags: list[str] = field(default_factory=list[str])


class PartedUploads:
    """The uploads in parts of one run.

    Args:
        http: The client of the sink.
        server: The server.
    """

    def __init__(self, http: HttpClient, server: WandbServer) -> None:
        self._http = http
        self._server = server
        self._under_way: dict[tuple[str, str, str], _UnderWay] = {}

    def born_in(self, artifact_id: str, content: Content) -> str | None:
        """The artifact that brings a file whose upload is under way; None if it is not."""
        found = self._under_way.get(_key(artifact_id, content))
        return None if found is None else found.born_in

    def begin(
        self,
        artifact_id: str,
        content: Content,
        node: Mapping[str, JsonValue],
        headers: Mapping[str, str],
        born_in: str,
    ) -> None:
        """Take note of where the server wants a file's parts.

        Args:
            artifact_id: The artifact that the file is of.
            content: The file.
            node: What the server says of it.
            headers: Sent with each part.
            born_in: The artifact that brings it.

        Raises:
            UnavailableError: There are not as many places as parts.
        """
        multipart = node.get("uploadMultipartUrls")
        found = multipart if isinstance(multipart, dict) else {}
        listed = found.get("uploadUrlParts")
        places = [each for each in (listed if isinstance(listed, list) else []) if each]
        urls = [
            str(each.get("uploadUrl"))
            for number, each in enumerate(places, start=1)
            if isinstance(each, dict) and each.get("partNumber") == number
        ]
        if len(urls) != len(content.parts):
            raise UnavailableError(f"places for {len(urls)} of {len(content.parts)} parts")
        self._under_way[_key(artifact_id, content)] = _UnderWay(
            found.get("uploadID"), str(node.get("storagePath")), born_in, urls, headers
        )

    async def go_on(self, artifact_id: str, content: Content) -> None:
        """Upload the parts that are not there yet, and have them put together.

        Raises:
            UnavailableError: Storage cannot be reached, or has ended the upload.
            DeliveryError: As `HttpClient.upload`.
        """
        key = _key(artifact_id, content)
        with gone_on_with(self._under_way, key, content.name) as under_way:
            for number in range(len(under_way.tags), len(content.parts)):
                await self._put(under_way, content, number)
            await self._complete(artifact_id, under_way)

    async def _put(self, under_way: _UnderWay, content: Content, number: int) -> None:
        """Upload one part."""
        offset, digest = number * content.part, content.parts[number]
        answer = await self._http.upload(
            "PUT",
            under_way.urls[number],
            content.path,
            offset=offset,
            length=min(content.part, content.size - offset),
            headers={**under_way.headers, "content-md5": in_base64(bytes.fromhex(digest))},
        )
        under_way.tags.append(answer.headers.get("etag", digest))

    async def _complete(self, artifact_id: str, under_way: _UnderWay) -> None:
        # The tag that storage gave to a part has a name from a time when it was its MD5.
        completed: list[JsonValue] = [
            {"partNumber": number, "hexMD5": tag} for number, tag in enumerate(under_way.tags, 1)
        ]
        variables: dict[str, JsonValue] = {
            "completeMultipartAction": "Complete",
            "completedParts": completed,
            "artifactID": artifact_id,
            "storagePath": under_way.storage_path,
            "uploadID": under_way.upload_id,
        }
        await self._server.call("CompleteMultipartUploadArtifact", COMPLETE, variables)


def _key(artifact_id: str, content: Content) -> tuple[str, str, str]:
    return artifact_id, content.name, content.md5
