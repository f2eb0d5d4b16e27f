"""Saves an output directory's checkpoints off the training thread and deletes the old ones.

    training thread │ save: wait for the checkpoint before, copy the state, go on
    ────────────────┼───────────────────────────────────────────────────────────────────
    writer thread   │ files ─► checksums ─► fsync ─► rename ─► complete(...) ─► rotation

One snapshot exists at a time, so the host memory taken is the size of one state; a save that comes
before the disk has finished the last one waits for it.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bus import unheld
from runtime._checkpoint_contents import CheckpointContents, SavedCheckpoint
from runtime._checkpoint_errors import CheckpointDelayError
from runtime._checkpoint_files import (
    checkpoint_path,
    clear_leftovers,
    hide_checkpoint,
)
from runtime._checkpoint_folder import write_checkpoint
from runtime._checkpoint_rotation import Pins, beyond_limit, by_age, newest_before
from runtime._checkpoint_shards import write_part
from runtime._checkpoint_snapshot import Snapshot, Snapshotter
from runtime._checkpoint_thread import JobThread

log = logging.getLogger("runtime")

PATIENCE: Final = 600.0
"""Seconds a save waits for the one before it, longer than any disk that still works."""

_NOTABLE: Final = 1.0
"""Seconds of waiting that a user wants to know of."""


class Checkpoints:
    """Saves checkpoints and deletes old ones.

    What processes that are gone have left unfinished in the folder is removed at once.

    Args:
        folder: Where `checkpoint-STEP` folders are made; made itself when needed.
        limit: How many checkpoints to keep, the newest and the best always among them; None or 0
            keeps all.
        asynchronous: Write on a thread of its own. Otherwise `save` writes, and copies nothing on
            the host first.
        complete: Called with each checkpoint that has become visible, before older ones are
            deleted, on the writing thread.
        failed: Called likewise with the path of each that could not be saved, and why; nothing of
            it is left, and those before it are untouched. Called by `save` itself where the disk
            has hung for ten minutes.
        spoilt_from: Asked on the writing thread, before anything is deleted, for the first step
            whose weights may be spoilt; None if there is none. The newest checkpoint before it is
            kept, if need be beyond the limit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int | None,
        asynchronous: bool,
        complete: Callable[[SavedCheckpoint], None],
        failed: Callable[[Path, Exception], None],
        spoilt_from: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._complete = complete
        self._failed = failed
        self._spoilt_from = spoilt_from
        self._best: Path | None = None
        self._pins = Pins()
        self._pinning = threading.Lock()
        self._told_wait = False
        self._snapshotter = Snapshotter(reuse=asynchronous)
        self._thread = JobThread("checkpoints", background=asynchronous)
        clear_leftovers(folder)

    @property
    def superseded(self) -> int:
        """Readings that came too late, because newer checkpoints had taken the place."""
        return self._pins.superseded

    def save(self, contents: CheckpointContents, *, step: int, best: Path | None) -> Path:
        """Take a snapshot of the live state and hand it to the writer.

        Holds the calling thread for the copy of CPU tensors, and until the checkpoint before this
        one is finished; CUDA tensors are copied behind its back, see `before_update`.

        Args:
            contents: The live state; it may change as soon as this returns.
            step: Optimizer steps taken.
            best: The best checkpoint so far, which rotation keeps; this one perhaps.

        Returns:
            Where the checkpoint will be.

        Raises:
            UnsavableStateError: A tensor in the state has no plain form on the host.
        """
        began = time.monotonic()
        path = checkpoint_path(self._folder, step)
        if not self._thread.wait(PATIENCE):
            self._failed(path, CheckpointDelayError(path, PATIENCE))
            return path
        waited = time.monotonic() - began
        self._tell_wait(waited)
        snapshot = self._snapshotter.take(contents)
        held = time.monotonic() - began
        write = partial(self._write, path, snapshot, contents, best)
        self._thread.submit(partial(write, step=step, began=began, waited=waited, held=held))
        return path

    def do(self, job: Callable[[], None]) -> None:
        """Have the writer do something, behind everything that was handed over before."""
        self._thread.submit(job)

    def before_update(self) -> None:
        """Let the device, not the host, wait for copies under way; call it before each update.

        Costs one comparison when nothing is under way.
        """
        self._snapshotter.before_update()

    def pin(self, path: Path) -> None:
        """Ask that a checkpoint outlive its place in the rotation until it has been read.

        At most one waits beyond the limit, the newest, and only while none beyond it is being read.
        """
        with self._pinning:
            self._pins.want(self._own(path))

    def reading(self, path: Path) -> bool:
        """Say that reading a pinned checkpoint begins; it is then kept until `unpin`.

        Returns:
            False if it was superseded: newer ones took its place, and it is gone.
        """
        with self._pinning:
            return self._pins.begin(self._own(path))

    def unpin(self, path: Path) -> None:
        """Say that a checkpoint has been read; it goes if it is beyond the limit."""
        with self._pinning:
            self._pins.end(self._own(path))
        self._thread.submit(self._rotate)

    def keep_only(self, path: Path) -> None:
        """Delete every checkpoint but this one and those pinned, once all are written.

        Nothing is deleted if this one does not exist.
        """
        self._thread.submit(partial(self._delete_others, self._own(path)))

    def rotate(self) -> None:
        """Delete what is beyond the limit and was held by somebody who has let go of it."""
        self._thread.submit(self._rotate)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything handed over is on disk or has failed; False if it takes longer."""
        return self._thread.wait(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Wait likewise, end the thread and give the memory back; saving again takes both anew."""
        done = self._thread.close(timeout)
        self._snapshotter.forget()
        return done

    def _write(
        self,
        path: Path,
        snapshot: Snapshot,
        contents: CheckpointContents,
        best: Path | None,
        *,
        step: int,
        began: float,
        waited: float,
        held: float,
    ) -> None:
        shard = contents.shard
        try:
            snapshot.wait()
            if shard is not None and shard.rank:
                write_part(self._folder, snapshot, shard)
                return
            size = write_checkpoint(path, snapshot, contents).size
        except Exception as error:  # noqa: BLE001 - a disk or a user's object; the trainer is told
            if shard is not None:
                shard.turn.fail(error)
            self._failed(path, error)
            return
        seconds = time.monotonic() - began
        self._best = None if best is None else self._own(best)
        try:
            self._complete(
                SavedCheckpoint(
                    path=path, step=step, size=size, waited=waited, held=held, seconds=seconds
                )
            )
        finally:
            self._rotate()

    def _rotate(self) -> None:
        checkpoints = by_age(self._folder)
        sound = newest_before(self._spoilt_from(), checkpoints)
        self._delete(beyond_limit(checkpoints, self._limit, self._best, sound))

    def _delete_others(self, kept: Path) -> None:
        if kept.is_dir():
            self._delete([path for path in by_age(self._folder) if path != kept])

    def _delete(self, doomed: list[Path]) -> None:
        hidden: list[Path] = []
        with self._pinning:  # so that nobody begins to read what is about to vanish
            for path in self._pins.release(doomed):
                try:
                    with unheld(path) as free:
                        # One that a sink uploads goes at a later time, at the latest at the end.
                        if free:
                            hidden.append(hide_checkpoint(path))
                except FileNotFoundError:
                    continue  # somebody else deletes here too
                except OSError as error:
                    log.warning("%s is to be deleted and cannot be: %s", path, error)
        for path in hidden:
            shutil.rmtree(path, ignore_errors=True)

    def _own(self, path: Path) -> Path:
        """A checkpoint of this folder as `save` names it; any other as it is."""
        same = path.absolute().parent == self._folder.absolute()
        return self._folder / path.name if same else path

    def _tell_wait(self, waited: float) -> None:
        if waited > _NOTABLE and not self._told_wait:
            self._told_wait = True
            log.warning(
                "training waited %.1f s for the last checkpoint to reach the disk; save less often "
                "or to a faster disk",
                waited,
            )
