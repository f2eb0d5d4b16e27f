"""Plans what is uploaded, when, and under which name; the files themselves are not touched here."""

from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue

from bus import ArtifactReady, MediaLogged, Record
from sinks._comet_plan import Item, Upload
from sinks._comet_settings import LogAssets
from sinks._comet_state import File, Memory
from sinks._tracked import Announced, is_repeated, is_wanted, place_of

_MEDIA: Final = {"image": "visualization", "audio": "audio", "video": "video"}
_MOST: Final = {"text-sample": 500, "model-element": 100}
"""Texts and models that an experiment may have, by Comet's documentation of its limits."""
_TEXTS: Final = "auto-generated-in-the-backend"
"""What Comet's client calls every text."""


class Uploads:
    """Plans uploads.

    Args:
        memory: What has been delivered; what waits for the run's end is added.
        when: Which files are uploaded.
    """

    def __init__(self, memory: Memory, when: LogAssets) -> None:
        self._memory = memory
        self._when = when

    def file(self, record: Record, event: Announced) -> list[Upload]:
        """A file's or folder's upload, unless it waits for the run's end or is not wanted."""
        *_, folder, name = ("", *event.path.replace("\\", "/").rstrip("/").split("/"))
        target, kind, metadata = f"{folder}/{name}" if folder else name, "asset", Item()
        if is_repeated(event, self._memory):
            return []
        if isinstance(event, ArtifactReady):
            target, metadata = event.name, dict(event.metadata)
            kind = "model-element" if event.kind == "model" else "asset"
        group = target if kind == "model-element" else ""
        if self._when == "end":
            self._memory.waiting[target] = File(event.path, kind, group, event.step)
        elif is_wanted(event, self._when):
            return self._counted(
                Upload(
                    place=f"{place_of(record)}:{target}",
                    target=target,
                    source=event.path,
                    kind=kind,
                    group=group,
                    step=event.step,
                    metadata=metadata,
                )
            )
        return []

    def media(self, record: Record, event: MediaLogged) -> list[Upload]:
        """The upload of a picture, a sound or a film, which is small and always wanted."""
        metadata: Item = {"caption": event.caption} if event.caption else {}
        return self._counted(
            Upload(
                place=f"{place_of(record)}:{event.key}",
                target=event.key,
                source=event.path,
                kind=_MEDIA.get(event.media_type.partition("/")[0], "asset"),
                step=event.step,
                metadata=metadata,
            )
        )

    def text(self, record: Record, text: str, metadata: dict[str, JsonValue]) -> list[Upload]:
        """A text's upload."""
        return self._counted(
            Upload(
                place=f"{place_of(record)}:text",
                target=_TEXTS,
                text=text,
                kind="text-sample",
                step=record.event.step,
                metadata=metadata,
            )
        )

    def _counted(self, upload: Upload) -> list[Upload]:
        """The upload, unless Comet has as many of its kind as it takes."""
        count = self._memory.counts.get(upload.kind, 0)
        if count >= _MOST.get(upload.kind, count + 1):
            self._memory.leave_out(f"Comet keeps {count} of {upload.kind} in an experiment")
            return []
        if upload.kind in _MOST:
            self._memory.counts[upload.kind] = count + 1
        return [upload]


def waiting(memory: Memory) -> Iterator[Upload]:
    """What is to be uploaded at the run's end, as far as it is still there then."""
    for target, file in memory.waiting.items():
        yield Upload(
            place=f"{memory.masked_for}.end:{target}",
            target=target,
            source=file.source,
            kind=file.kind,
            group=file.group,
            step=file.step,
            may_be_gone=True,
        )
