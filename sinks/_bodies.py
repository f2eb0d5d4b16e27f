"""Bodies of requests: bytes in slices, and files from disk that are never loaded whole."""

import gzip
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from bus import RejectedError, UnavailableError
from bus._worker import Worker

SLICE: Final = 1 << 18
"""Bytes handed to the connection at once; its timeout for writing is for so many."""
_READ: Final = 1 << 20
_SMALL: Final = 1 << 17
"""Up to this size compressing on the loop costs less than asking a thread."""

Result = TypeVar("Result")


class Body(Protocol):
    """What a request sends; each iteration begins anew, so that it can be sent again."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> bytes: ...


class BytesBody:
    """Bytes, sent in slices."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._content)

    def __aiter__(self) -> Self:
        self._at = 0
        return self

    async def __anext__(self) -> bytes:
        if self._at >= len(self._content):
            raise StopAsyncIteration
        piece = self._content[self._at : self._at + SLICE]
        self._at += len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class Version:
    """What tells a file from another one, or a later one, of the same name."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """The version that was looked at."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class FileBody:
    """A part of a file, read off the loop while it is sent.

    Make it with `FileBody.of`, which looks at the file; it is opened anew for each megabyte, so
    that nothing is left open however the request ends.
    """

    def __init__(
        self, path: Path, version: Version, offset: int, size: int, moved: Callable[[int], object]
    ) -> None:
        self._path = path
        self._version = version
        self._offset = offset
        self._size = size
        self._moved = moved
        self._read = 0
        self._piece = b""

    @classmethod
    async def of(
        cls, path: Path, *, offset: int, length: int | None, moved: Callable[[int], object]
    ) -> Self:
        """A file from `offset` on, all of it or `length` bytes.

        Args:
            path: The file.
            offset: The first byte to send.
            length: Bytes to send.
            moved: Told how many bytes the connection has taken, whenever it takes some.

        Raises:
            RejectedError: There is no such file, or not so much in it.
        """
        version = await in_thread(_look, path)
        wanted = version.size - offset if length is None else length
        if offset < 0 or wanted < 0 or offset + wanted > version.size:
            raise RejectedError(
                f"{path} has {version.size} bytes; asked for {wanted} behind {offset}"
            )
        return cls(path, version, offset, wanted, moved)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._size

    def __aiter__(self) -> Self:
        self._read, self._piece = 0, b""
        return self

    async def __anext__(self) -> bytes:
        self._moved(self._read - len(self._piece))
        if not self._piece:
            if self._read == self._size:
                raise StopAsyncIteration
            await self._fill()
        piece, self._piece = self._piece[:SLICE], self._piece[SLICE:]
        return piece

    async def _fill(self) -> None:
        count = min(_READ, self._size - self._read)
        at = self._offset + self._read
        self._piece = await in_thread(_read_part, self._path, self._version, at, count)
        self._read += len(self._piece)


class JoinedBody:
    """Several bodies, one behind the other, as a multipart upload sends them."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._bodies = tuple(bodies)
        self._left: list[Body] = []

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(each.size for each in self._bodies)

    def __aiter__(self) -> Self:
        self._left = [aiter(each) for each in self._bodies]
        return self

    async def __anext__(self) -> bytes:
        while self._left:
            try:
                return await anext(self._left[0])
            except StopAsyncIteration:
                del self._left[0]
        raise StopAsyncIteration


async def zipped(content: bytes) -> bytes:
    """Compress; big bodies off the loop, since a megabyte takes some milliseconds."""
    return _zip(content) if len(content) <= _SMALL else await in_thread(_zip, content)


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Make one call in a daemon thread; cancelling abandons it."""
    worker = Worker(f"hotloop-{function.__name__.strip('_')}")
    try:
        return await worker.call(function, *arguments)
    finally:
        worker.end()


def _zip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def _look(path: Path) -> Version:
    try:
        if not path.is_file():
            raise RejectedError(f"{path} is no file (any more)")
        return Version.of(path.stat())
    except OSError as error:
        raise RejectedError(f"{path} cannot be read: {error.strerror}") from error


def _read_part(path: Path, version: Version, offset: int, count: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            piece = file.read(count)
            if Version.of(os.fstat(file.fileno())) != version or not piece:
                raise UnavailableError(f"{path} changed while it was sent")
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}") from error
    return piece
