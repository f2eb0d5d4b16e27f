"""The names of checkpoints and of the files in them, and how a folder's checkpoints are found.

    output/checkpoint-500/                       complete, or it would not have this name
    output/.checkpoint-500.host.71-9000.tmp      being written, or being deleted
    output/.checkpoint-500.host.71-9000.old      replaced by a newer one of the same step

The hidden names carry the process they belong to: host, process id, and when that process began in
clock ticks since boot. What a process that is gone has left is cleared when training starts.
"""

import contextlib
import logging
import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Final, Literal, TypeAlias

from bus import AttemptInfo
from bus._rundir import process_started
from runtime._checkpoint_errors import DamagedCheckpointError

log = logging.getLogger("runtime")

MODEL: Final = "model.safetensors"
MODEL_INDEX: Final = "model.safetensors.index.json"
OLD_MODEL: Final = "pytorch_model.bin"
OLD_MODEL_INDEX: Final = "pytorch_model.bin.index.json"
OPTIMIZER: Final = "optimizer.pt"
SCHEDULER: Final = "scheduler.pt"
SCALER: Final = "scaler.pt"
RNG: Final = "rng_state.pth"
LOOP: Final = "loop.pt"
STATE: Final = "trainer_state.json"
ARGUMENTS: Final = "training_args.json"
MANIFEST: Final = "manifest.json"

Kind: TypeAlias = Literal["model", "optimizer"]
"""What a file of one process holds, where a sharded training has made the checkpoint."""

_RANK_FILE: Final = re.compile(r"(model|optimizer)_rank(\d+)-of-(\d+)\.safetensors")
_NAME: Final = re.compile(r"checkpoint-(\d+)")
_HIDDEN: Final = re.compile(r"\.(checkpoint-\d+)\.(.+)\.(\d+)-(\d+)\.(tmp|old)")
_FORGOTTEN: Final = 24 * 3600.0
"""Seconds after which what another machine has left untouched is taken for dead."""


def rng_file(rank: int) -> str:
    """The name of one process's generators, where several have made a checkpoint."""
    return f"rng_state_{rank}.pth"


def rank_file(kind: Kind, rank: int, size: int) -> str:
    """The name of the file of one process out of so many."""
    return f"{kind}_rank{rank}-of-{size}.safetensors"


def rank_files(path: Path, kind: Kind) -> list[str]:
    """The files of all processes by rank; none if the checkpoint was not sharded.

    Raises:
        DamagedCheckpointError: One of them is missing.
    """
    try:
        matches = [_RANK_FILE.fullmatch(each.name) for each in path.iterdir()]
    except OSError:
        return []
    found = {(int(each[2]), int(each[3])) for each in matches if each and each[1] == kind}
    if not found:
        return []
    size = max(of for _, of in found)
    for rank in range(size):
        if (rank, size) not in found:
            name = rank_file(kind, rank, size)
            raise DamagedCheckpointError(path, name, "is missing, and others of its kind are there")
    return [rank_file(kind, rank, size) for rank in range(size)]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"checkpoint-{step}"


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        ValueError: The name is none of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name!r} is no checkpoint's name; they are called checkpoint-STEP")
    return int(match[1])


def find_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder by ascending step; none if there is no such folder."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=checkpoint_step)


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    return max(find_checkpoints(folder), key=checkpoint_step, default=None)


def hidden_path(path: Path, kind: Literal["tmp", "old"]) -> Path:
    """A name beside a checkpoint that nobody takes for one, marked as this process's."""
    pid = os.getpid()
    owner = f"{socket.gethostname()}.{pid}-{process_started(pid) or 0}"
    return path.with_name(f".{path.name}.{owner}.{kind}")


def put_in_place(written: Path, path: Path) -> None:
    """Give a finished folder its visible name; one that has the name already is replaced.

    Between the two renames of a replacement nothing has the name; `clear_leftovers` gives it back
    to the older one if the process ends there.
    """
    replaced = hidden_path(path, "old")
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    try:
        written.rename(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            replaced.rename(path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def hide_checkpoint(path: Path) -> Path:
    """Make a checkpoint invisible at once, for the deleting may take a while.

    Returns:
        What is to be deleted.

    Raises:
        OSError: It could not be renamed, and is still there.
    """
    doomed = hidden_path(path, "tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(doomed)
    return doomed


def sync_folder(folder: Path) -> None:
    """Make names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that are gone have left half written, and undo half replacements."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # there is nothing to clear, or the first save will say why it cannot
        return
    for path in entries:
        match = _HIDDEN.fullmatch(path.name)
        if match is None or _in_use(path, host=match[2], pid=int(match[3]), ticks=int(match[4])):
            continue
        original = folder / match[1]
        if match[5] == "old" and not original.exists():
            with contextlib.suppress(OSError):
                path.rename(original)
                log.warning("%s was being replaced when its process ended; it is kept", original)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _in_use(path: Path, *, host: str, pid: int, ticks: int) -> bool:
    """Whether the process that a hidden folder belongs to may still work on it."""
    owner = AttemptInfo(number=0, pid=pid, host=host, process_started=ticks or None, started=0.0)
    lives = owner.lives()
    return _touched(path) > time.time() - _FORGOTTEN if lives is None else lives


def _touched(path: Path) -> float:
    """When anything directly in a folder was last written."""
    with contextlib.suppress(OSError):
        return max(each.stat().st_mtime for each in (path, *path.iterdir()))
    return time.time()
