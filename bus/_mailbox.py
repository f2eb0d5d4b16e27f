"""Requests from other processes: one file each in the run's folder, taken by the writer thread.

A file appears under its name when it is whole (a rename) and whoever unlinks it has taken it, so
plain files on any file system do, and several processes may share a mailbox. Names that begin with
a dot are being written, or were set aside.
"""

import contextlib
import itertools
import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus._requests import Request, parse_request

log = logging.getLogger("bus")

MAILBOX_FOLDER: Final = "mailbox"
"""The folder of requests from outside, below the run's."""

_INTERVAL: Final = 0.5
"""Seconds between two looks; a folder on a network file system costs its server one each."""

_FILES: Final = 64
"""Files looked at in one go."""

_BYTES: Final = 65_536
"""Size beyond which no request is read."""


def post(run_dir: Path, request: Request) -> Path:
    """Lay a request into a run's mailbox; return its file, which is gone once it was taken.

    Raises:
        OSError: The disk refused.
    """
    folder = run_dir / MAILBOX_FOLDER
    folder.mkdir(exist_ok=True)
    name = f"{request.type}-{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    file, temporary = folder / name, folder / f".{name}"
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(request.model_dump_json() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return file


class Mailbox:
    """The receiving side.

    Args:
        run_dir: The run's folder.
        asks: Takes each request.
        clear: Set aside what lies there already, since it was meant for an earlier attempt.
    """

    def __init__(self, run_dir: Path, asks: Callable[[Request], object], *, clear: bool) -> None:
        self._folder = run_dir / MAILBOX_FOLDER
        self._asks = asks
        self._next_look = 0.0
        self._refused: set[str] = set()
        for name in self._names() if clear else ():
            self._set_aside(name, "it was meant for an earlier attempt at the run")

    def look(self) -> None:
        """Take what has come; costs nothing between two looks."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _INTERVAL
        for name in self._names():
            try:
                request = _read(self._folder / name)
            except FileNotFoundError:
                continue  # withdrawn, or another process has taken it
            except (OSError, ValueError, RecursionError) as error:
                self._set_aside(name, str(error))
            else:
                if self._take(name):
                    self._asks(request)

    def _names(self) -> list[str]:
        """What is there and not dealt with, oldest request first."""
        try:
            with os.scandir(self._folder) as entries:
                seen = (entry.name for entry in entries)
                new = (n for n in seen if not n.startswith(".") and n not in self._refused)
                return sorted(itertools.islice(new, _FILES), key=_age)
        except OSError:  # nobody has ever asked for anything
            return []

    def _take(self, name: str) -> bool:
        """Whether this process is the one to act on a file."""
        try:
            (self._folder / name).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._set_aside(name, f"it cannot be taken away: {error.strerror or error}")
            return False
        return True

    def _set_aside(self, name: str, why: str) -> None:
        """Out of the way of later looks, and said; where it cannot be moved, it is remembered."""
        self._refused.add(name)
        path = self._folder / name
        with contextlib.suppress(OSError):
            path = path.rename(self._folder / f".set-aside-{name}")
        log.warning("%s asks for nothing: %s", path, why)


def _age(name: str) -> tuple[str, str]:
    _, _, rest = name.partition("-")
    return rest, name


def _read(file: Path) -> Request:
    """The request in a file, whatever the file is.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds no request.
    """
    # Without waiting for the other end, should it be a pipe, and not through a link.
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no plain file")
        data = os.read(handle, _BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > _BYTES:
        raise ValueError(f"it is larger than {_BYTES} bytes")
    return parse_request(json.loads(data))
