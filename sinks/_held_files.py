"""Finds what an upload consists of, and keeps it from rotation until all of it is stored."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus import FolderHold
from sinks._bodies import in_thread


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of an upload.

    Attributes:
        path: Where it is.
        inner: Its place inside the folder; "" if it is what was to be uploaded itself.
    """

    path: Path
    inner: str

    def below(self, target: str) -> str:
        """Its place under the upload's."""
        return f"{target}/{self.inner}" if self.inner else target


class HeldFiles:
    """What is being uploaded: one file or folder at a time, held however often that is tried."""

    def __init__(self) -> None:
        self._held: FolderHold | None = None

    async def find(self, source: Path) -> list[FoundFile]:
        """Hold a file or folder in place of the one before; its files, none if it is gone."""
        self.hold(source)
        return await in_thread(files_in, source)

    def hold(self, source: Path) -> bool:
        """Hold a file or folder in place of the one before; False if it is that folder."""
        if self._held is not None and self._held.path == source:
            return False
        self.release()
        with contextlib.suppress(OSError):  # a file, or nothing
            self._held = FolderHold(source)
        return True

    def release(self) -> None:
        """Let go of what is held."""
        if self._held is not None:
            self._held.release()
            self._held = None


def files_in(source: Path) -> list[FoundFile]:
    """A file, or the files of a folder in a fixed order; none if there is nothing."""
    if source.is_file():
        return [FoundFile(source, "")]
    return [FoundFile(path, path.relative_to(source).as_posix()) for path in _walk(source)]


def _walk(source: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(source):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())
