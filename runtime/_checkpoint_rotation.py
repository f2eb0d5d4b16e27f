"""Which checkpoints go: those beyond the limit, as Transformers decides, less what is being read.

Deciding is pure; `Checkpoints` deletes.
"""

import contextlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from runtime._checkpoint_files import checkpoint_step, find_checkpoints

log = logging.getLogger("runtime")

_COARSE: Final = 1.0
"""Seconds: modification times that all lie within say nothing about the order."""


def by_age(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the one written first in front.

    By time and not by step, so that after going back to an earlier checkpoint the newly written
    ones outlive those of the abandoned course; by step where the file system's times do not tell.
    """
    times: dict[Path, float] = {}
    for path in find_checkpoints(folder):
        with contextlib.suppress(FileNotFoundError):  # somebody else deletes here too
            times[path] = path.stat().st_mtime
    if times and max(times.values()) - min(times.values()) < _COARSE:
        return list(times)
    return sorted(times, key=lambda path: (times[path], checkpoint_step(path)))


def newest_before(step: int | None, checkpoints: Sequence[Path]) -> Path | None:
    """The checkpoint, of those given oldest first, that was written last before a step."""
    if step is None:
        return None
    return next((each for each in reversed(checkpoints) if checkpoint_step(each) < step), None)


def beyond_limit(
    checkpoints: Sequence[Path],
    limit: int | None,
    best: Path | None,
    sound: Path | None = None,
) -> list[Path]:
    """Choose what is to be deleted: the oldest, but never the newest, the best and the sound one.

    Args:
        checkpoints: Those that there are, the oldest first.
        limit: How many to keep; None or 0 keeps all.
        best: The best one so far; it need not exist.
        sound: The last one before the training went wrong, if it has.
    """
    if not limit or limit < 0 or len(checkpoints) <= limit:
        return []
    protected = {checkpoints[-1], *(each for each in (best, sound) if each is not None)}
    surplus = len(checkpoints) - max(limit, len(protected))
    return [path for path in checkpoints if path not in protected][: max(0, surplus)]


class Pins:
    """Checkpoints that somebody wants to read, such as an upload.

    Beyond the limit one at most is kept for a reading that has not begun, and none while another
    is being read; a reading that comes too late for it is superseded, and counted.
    """

    def __init__(self) -> None:
        self._wanted: dict[Path, bool] = {}
        self.superseded = 0

    def want(self, path: Path) -> None:
        """Ask that a checkpoint be kept until it has been read."""
        self._wanted.setdefault(path, False)

    def begin(self, path: Path) -> bool:
        """Say that reading begins; False if the checkpoint was superseded, or is gone."""
        if path not in self._wanted:
            return False
        if not path.is_dir():
            self._supersede(path)
            return False
        self._wanted[path] = True
        return True

    def end(self, path: Path) -> None:
        """Say that a checkpoint is needed no more."""
        self._wanted.pop(path, None)

    def release(self, doomed: Collection[Path]) -> list[Path]:
        """Of the checkpoints beyond the limit, given oldest first, those that may go."""
        waiting = [path for path in doomed if self._wanted.get(path) is False]
        kept = {path for path in doomed if self._wanted.get(path)}
        if not kept:
            kept = set(waiting[-1:])
        for path in waiting:
            if path not in kept:
                self._supersede(path)
        return [path for path in doomed if path not in kept]

    def _supersede(self, path: Path) -> None:
        del self._wanted[path]
        self.superseded += 1
        log.info("%s is not read any more: newer checkpoints have taken its place", path)
