"""Appends to files so that what is in them is exactly what was acknowledged, whatever happened.

The truth is a length that the caller remembers (a sink: in its state). What lies behind it was
written by a process that died, or by a call that failed, before anybody could acknowledge it; it is
cut off before the next write. No file is kept open between calls, so a file that somebody removed
is noticed, and a network file system shows each write to its other machines.

None of this guards against power failures, which may cost what the system had not yet written.
"""

import contextlib
import errno
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from bus import DeliveryError, MisconfiguredError, UnavailableError

__all__ = ["AppendedFile", "append", "check_folder", "claim", "cut", "refusals", "size_of"]

log = logging.getLogger("sinks")

_NEEDS_A_PERSON: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
_PIECE: Final = 1 << 20


@contextlib.contextmanager
def refusals(path: Path) -> Generator[None]:
    """Tell what an operating system's refusal means for a delivery.

    Raises:
        MisconfiguredError: The place is read-only, forbidden or no place for a file.
        UnavailableError: Anything else, such as a full disk: space may come back.
    """
    try:
        yield
    except OSError as error:
        raise _meaning(error, path) from error


def _meaning(error: OSError, path: Path) -> DeliveryError:
    message = f"{path} cannot be written: {error.strerror or error}"
    if error.errno in _NEEDS_A_PERSON:
        return MisconfiguredError(message, fix="make it writable or choose another place")
    return UnavailableError(message)


def check_folder(folder: Path) -> str:
    """Make a file that vanishes in a folder, or above it where that is yet to be made.

    Returns:
        Which folder can be written, in words.

    Raises:
        DeliveryError: It cannot.
    """
    folder = folder.absolute()
    with refusals(folder):
        above = next(each for each in (folder, *folder.parents) if each.exists())
        with tempfile.TemporaryFile(dir=above, prefix=".hotloop-") as file:
            file.write(b"\n")
            file.flush()
    return f"{folder} can be {'written' if above == folder else f'made in {above}'}"


def size_of(path: Path) -> int | None:
    """A file's bytes; None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def cut(path: Path, size: int) -> None:
    """Remove what a file holds beyond `size` bytes; a file that is not there stays so.

    Raises:
        OSError: The disk refused.
    """
    actual = size_of(path)
    if actual is not None and actual > size:
        os.truncate(path, size)


def append(path: Path, size: int, data: bytes) -> int:
    """Write behind the first `size` bytes of a file, which is made if need be.

    Anything already there is cut off. After a failure the file ends where it did before, as far as
    the disk allows.

    Returns:
        The new size.

    Raises:
        OSError: The disk refused.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, size)
        try:
            _write_all(descriptor, data, size)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    return size + len(data)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def claim(path: Path, *, alone: bool) -> Path:
    """Make an empty file that nobody else has: `metrics.csv`, or else `metrics-2.csv` and so on.

    Args:
        path: The name that is tried first.
        alone: Whether nobody else makes files there, so that an empty one is what a process left
            that died at once.

    Raises:
        OSError: The disk refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _numbered(path):
        try:
            candidate.touch(exist_ok=False)
        except FileExistsError:
            if not (alone and candidate.is_file() and candidate.stat().st_size == 0):
                continue
        return candidate
    raise AssertionError("unreachable")  # pragma: no cover - the numbers never end


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_stem(f"{path.stem}-{number}")


class AppendedFile:
    """A file of whole lines in numbered parts, the newest of which has the file's own name.

    `settle` takes it back to where it was at a point that the caller remembers as `part` and
    `size`. For that, what a part replaced stays beside it until the caller `forget`s it.

    Args:
        path: The newest part.
        kept: The path of an earlier part, by its number.

    Attributes:
        part: Number of the newest part, from 1.
        size: Its bytes.
    """

    def __init__(self, path: Path, kept: Callable[[int], Path]) -> None:
        self.path = path
        self.part: int = 1
        self.size: int = 0
        self._kept = kept

    def settle(self, part: int, size: int) -> None:
        """Undo everything since the file stood at `size` bytes of this part.

        Raises:
            OSError: The disk refused.
        """
        self._unlink(range(part + 1, self._first_missing(part + 1)))
        if self._kept(part).exists():
            self._kept(part).replace(self.path)
            # Renaming one of two links to the same file onto the other leaves both.
            self._kept(part).unlink(missing_ok=True)
        actual = size_of(self.path) or 0
        if actual < size:
            log.warning("%s lost %d bytes that were there before", self.path, size - actual)
            size = _last_line_end(self.path)
        cut(self.path, size)
        self.part, self.size = part, size

    def append(self, lines: bytes) -> None:
        """Write whole lines at the end.

        Raises:
            OSError: The disk refused; nothing was written.
        """
        self.size = append(self.path, self.size, lines)

    def begin_part(self, pieces: Iterable[bytes] = ()) -> None:
        """Put another part in the file's place, at once and complete.

        Args:
            pieces: What it begins with. May read the file, which is still the old one.

        Raises:
            OSError: The disk refused; nothing has changed.
        """
        fresh = self.path.with_name(f".{self.path.name}.new")
        size = 0
        try:
            with fresh.open("wb") as file:
                for piece in pieces:
                    size += file.write(piece)
            self._keep()
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        self.part, self.size = self.part + 1, size

    def forget(self, last: int) -> None:
        """Remove earlier parts up to this number.

        Raises:
            OSError: The disk refused.
        """
        first = last
        while first > 0 and self._kept(first).exists():
            first -= 1
        self._unlink(range(last, first, -1))

    def _keep(self) -> None:
        kept = self._kept(self.part)
        kept.unlink(missing_ok=True)
        try:
            kept.hardlink_to(self.path)
        except OSError:
            # Without links there is a moment without the file; `settle` puts it back.
            self.path.replace(kept)

    def _first_missing(self, part: int) -> int:
        while self._kept(part).exists():
            part += 1
        return part

    def _unlink(self, parts: range) -> None:
        """From the end that `_first_missing` and `forget` do not begin at, lest a gap hide some."""
        for part in reversed(parts):
            self._kept(part).unlink(missing_ok=True)


def _last_line_end(path: Path) -> int:
    """Bytes up to and including the last newline; 0 for no file."""
    try:
        with path.open("rb") as file:
            end = path.stat().st_size
            while end > 0:
                begin = max(0, end - _PIECE)
                file.seek(begin)
                found = file.read(end - begin).rfind(b"\n")
                if found >= 0:
                    return begin + found + 1
                end = begin
    except FileNotFoundError:
        pass
    return 0
