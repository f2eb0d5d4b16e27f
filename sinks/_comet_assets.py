"""Brings files and texts among an experiment's assets, from disk and beside the training.

A file that cannot be stored is one warning, is counted, and never holds up what stands behind it.
An asset's id follows from its place in the run, so that an upload which comes again is recognised.
"""

import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bus import RejectedError
from sinks._bodies import in_thread
from sinks._comet_answers import AlreadyThereError
from sinks._comet_parts import PartedAssets, Parting
from sinks._comet_plan import Upload
from sinks._comet_remote import RemoteExperiment
from sinks._comet_server import CometServer
from sinks._comet_state import Memory
from sinks._comet_values import compact
from sinks._held_files import HeldFiles
from sinks._http import HttpClient

log = logging.getLogger("sinks")

_LONGEST: Final = 500
"""Characters of an asset's name."""
_PARTING: Final = Parting()

Note = Callable[[str, int], Awaitable[None]]
"""Told how many files of the upload at a place are stored."""


class Assets:
    """The files of one experiment.

    Args:
        http: The client of the sink.
        server: Comet.
        experiment: The experiment.
        parting: Which files are sent in parts, where Comet offers that.
    """

    def __init__(
        self,
        http: HttpClient,
        server: CometServer,
        experiment: RemoteExperiment,
        parting: Parting = _PARTING,
    ) -> None:
        self._http = http
        self._server = server
        self._experiment = experiment
        self._parted = PartedAssets(http, server, experiment, parting)
        self._held = HeldFiles()

    async def store(self, upload: Upload, memory: Memory, note: Note) -> None:
        """Store a file, every file of a folder, or a text.

        Args:
            upload: What, and under which name.
            memory: Knows what of it is stored already, and counts what is not sent.
            note: Called after each file.

        Raises:
            DeliveryError: Comet cannot be reached, or lets nobody in.
        """
        if upload.source is None:
            await self._guarded(upload, upload.target, None, memory)
            return
        source = Path(upload.source)
        files = await self._held.find(source)
        if not files and not upload.may_be_gone:
            _leave_out(memory, f"{source} is gone", "gone before it could be uploaded")
        skip = memory.partly.get(upload.place, 0)
        # A model's name is its group's; its files are named as they are here.
        target = source.name if upload.group else upload.target
        for count, file in enumerate(files[skip:], start=skip + 1):
            await self._guarded(upload, file.below(target), file.path, memory)
            await note(upload.place, count)
        self.release()

    def release(self) -> None:
        """Let go of the folder that is being uploaded."""
        self._held.release()

    async def _guarded(self, upload: Upload, name: str, path: Path | None, memory: Memory) -> None:
        """Upload one; what Comet refuses for good, or the disk, is a warning."""
        try:
            size = 0 if path is None else await in_thread(os.path.getsize, path)
            parted = self._parted.takes(upload, size)
            if size > self._experiment.largest and not parted:
                limit = f"larger than the {self._experiment.largest >> 20} MB that Comet takes"
                _leave_out(memory, f"{path} is {limit}", limit)
            else:
                await self._put(upload, name, path, parted=parted)
        except AlreadyThereError:
            return  # an earlier try whose answer was lost
        except (RejectedError, OSError) as error:
            _leave_out(memory, f"{name}: {error}", "refused, or unreadable")

    async def _put(self, upload: Upload, name: str, path: Path | None, *, parted: bool) -> None:
        place = f"{self._experiment.key}/{upload.place}/{name}"
        number = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}~{number[:8]}"
        if parted and path is not None:
            await self._parted.store(upload, short, number, path)
            return
        url = self._server.upload_url(self._experiment, upload, short, number)
        boundary = f"hotloop-{number}"
        frame = _before(boundary, upload), f"\r\n--{boundary}--\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        await self._server.rates.room("else")
        if path is None:
            content = frame[0] + upload.text.encode("utf-8", "replace") + frame[1]
            await self._http.post(url, content=content, headers=headers)
        else:
            await self._http.upload("POST", url, path, headers=headers, frame=frame)


def _leave_out(memory: Memory, words: str, reason: str) -> None:
    log.warning("not uploaded to Comet: %s", words)
    memory.leave_out(reason)


def _before(boundary: str, upload: Upload) -> bytes:
    """What stands before the file in a multipart body."""
    metadata = ""
    if upload.metadata:
        metadata = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'
            f"{compact(upload.metadata)}\r\n"
        )
    file = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return (metadata + file).encode("utf-8", "replace")
