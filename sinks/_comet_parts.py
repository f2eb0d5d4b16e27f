"""Sends large files to Comet's storage in parts, and goes on behind the parts that are there.

As comet_ml 3.58.8 does where Comet offers it: a call that begins, a PUT for each part to an address
of its own, a call that ends. The addresses are signed, so they are kept in memory and never in the
cursor: whoever goes on after this process begins the file again. Storage may have ended an upload
that is gone on with; then it is forgotten, and the file begins again with the next try.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from bus import UnavailableError
from sinks._bodies import in_thread
from sinks._comet_plan import Upload
from sinks._comet_remote import RemoteExperiment
from sinks._comet_server import CometServer
from sinks._http import HttpClient
from sinks._resumed_uploads import gone_on_with

_KINDS: Final = frozenset({"asset", "model-element"})
_MOST_PARTS: Final = 10_000

Version: TypeAlias = tuple[int, int]
"""A file's bytes and when it was changed, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Parting:
    """From which size on files are sent in parts, and how large these are at most, in bytes."""

    beyond: int = 50 << 20
    part: int = 16 << 20


@dataclass(slots=True)
class _UnderWay:
    """An upload in parts; `tags` are what storage calls those that are there."""

    version: Version
    request_id: str
    urls: list[str]
    tags: list[str] = field(default_factory=list[str])


class PartedAssets:
    """The uploads in parts of one experiment.

    Args:
        http: The client of the sink.
        server: Comet.
        experiment: The experiment.
        parting: Which files are sent in parts.
    """

    def __init__(
        self, http: HttpClient, server: CometServer, experiment: RemoteExperiment, parting: Parting
    ) -> None:
        self._http = http
        self._server = server
        self._experiment = experiment
        self._parting = parting
        self._under_way: dict[str, _UnderWay] = {}

    def takes(self, upload: Upload, size: int) -> bool:
        """Whether a file of so many bytes is sent in parts."""
        direct = self._experiment.direct and upload.kind in _KINDS
        return direct and size >= self._parting.beyond

    async def store(self, upload: Upload, name: str, number: str, path: Path) -> None:
        """Send the parts of a file that are not there yet, and have them put together.

        Args:
            upload: What the file is of.
            name: Its name there.
            number: Its id there.
            path: The file.

        Raises:
            OSError: It cannot be read.
            AlreadyThereError: It is there.
            DeliveryError: As `HttpClient.upload`.
        """
        version = await in_thread(_version, path)
        under_way = self._under_way.get(number)
        if under_way is None or under_way.version != version:
            await self._begin(upload, name, number, version)
        with gone_on_with(self._under_way, number, name) as under_way:
            await self._go_on(under_way, path)

    async def _begin(self, upload: Upload, name: str, number: str, version: Version) -> None:
        count = -(-version[0] // self._length(version[0]))
        request_id, urls = await self._server.begin_parts(
            self._experiment, upload, name, number, count
        )
        if len(urls) != count:
            raise UnavailableError(f"places for {len(urls)} of {count} parts")
        self._under_way[number] = _UnderWay(version, request_id, urls)

    async def _go_on(self, under_way: _UnderWay, path: Path) -> None:
        size = under_way.version[0]
        length = self._length(size)
        for number in range(len(under_way.tags), len(under_way.urls)):
            offset = number * length
            answer = await self._http.upload(
                "PUT",
                under_way.urls[number],
                path,
                offset=offset,
                length=min(length, size - offset),
            )
            under_way.tags.append(answer.headers.get("etag", ""))
        await self._server.end_parts(under_way.request_id, size, under_way.tags)

    def _length(self, size: int) -> int:
        """Bytes of each part but the last: parts are of one size, as its client cuts them."""
        count = min(-(-size // self._parting.part), _MOST_PARTS)
        return -(-size // count)


def _version(path: Path) -> Version:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
