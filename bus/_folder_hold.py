"""Keeps a folder from being deleted while somebody reads it, in this process or another.

A reader holds a shared lock on the folder itself, whoever deletes asks for an exclusive one. The
lock belongs to an open file (flock(2)), so it ends with its holder, SIGKILL included.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import Self


class FolderHold:
    """A folder that stays where it is until the hold is released.

    `hotloop`'s checkpoint rotation deletes no folder that is held; other programs may.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: It is gone, or is being deleted.
        NotADirectoryError: It is a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._descriptor: int | None = _open(self.path)
        try:
            self._take()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let it go; once is enough."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self) -> None:
        assert self._descriptor is not None
        if not _locked(self._descriptor, fcntl.LOCK_SH):
            raise FileNotFoundError(f"{self.path} is being deleted")
        # It may have been renamed or replaced between the opening and the lock.
        if not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):  # noqa: PTH116 - to compare
            raise FileNotFoundError(f"{self.path} was replaced meanwhile")


@contextlib.contextmanager
def unheld(path: Path) -> Generator[bool]:
    """Whether nobody holds a folder, and nobody will until the block ends.

    A file system without such locks has no holders.
    """
    descriptor = _open(path)
    try:
        yield _locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _locked(descriptor: int, kind: int) -> bool:
    """Take a lock at once; False if somebody has one that excludes it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no such locks
        return True
    return True
