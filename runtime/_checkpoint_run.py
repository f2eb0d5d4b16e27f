"""Which run a checkpoint is of, so that the next process goes on with that, here and elsewhere.

A checkpoint names its run's folder. Where that is gone, because only checkpoints outlived the
machine, it still has the run's identity, by which destinations find the run on their side.
"""

import logging
import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bus import AttemptInfo, RunInfo, RunNotFoundError, create_run_dir

log = logging.getLogger("runtime")

RUN_PATH: Final = "run_path.txt"
"""Names the folder of the run, relative to the checkpoint's parent."""
RUN_IDENTITY: Final = "run_identity.json"
"""Holds a run.json of it with one attempt, and nothing about the machine."""


def write_run(folder: Path, run: Path, attempt: int, output_dir: Path) -> None:
    """Write into a checkpoint of an output directory which run and attempt it is of.

    Raises:
        OSError: The disk refused.
    """
    (folder / RUN_PATH).write_text(os.path.relpath(run, output_dir), encoding="utf-8")
    text = identity_text(run, attempt)
    if text is not None:
        (folder / RUN_IDENTITY).write_text(f"{text}\n", encoding="utf-8")


def identity_text(run: Path, attempt: int) -> str | None:
    """A run.json of a run with this attempt alone, as text; None if it lives in memory."""
    try:
        info = RunInfo.load(run)
    except RunNotFoundError:
        return None  # its disk refused
    last = AttemptInfo(number=attempt, pid=0, host="", started=info.created, outcome="crashed")
    return info.model_copy(update={"attempts": [last]}).model_dump_json(indent=2)


def run_of(checkpoint: Path, parent: Path) -> Path | None:
    """The folder of the run that made a checkpoint.

    Args:
        checkpoint: Its folder. It may be of an earlier version or of Transformers, and know no run.
        parent: The folder of runs. If the run's own folder is gone, one with its identity is made
            there, in which earlier attempts have left no journal.
    """
    try:
        named = (checkpoint / RUN_PATH).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = (checkpoint.parent / named).resolve()
    if (folder / "run.json").is_file():
        return folder
    try:
        identity = (checkpoint / RUN_IDENTITY).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        log.warning("%s is gone, and this becomes a new run: %s", folder, error)
        return None
    return identified_run(folder, identity, parent)


def identified_run(gone: Path, identity: str, parent: Path) -> Path | None:
    """The folder of a run whose own is gone: one with its identity, which is made if need be.

    Args:
        gone: Where it was.
        identity: What `identity_text` returned.
        parent: The folder of runs.
    """
    try:
        info = RunInfo.model_validate_json(identity)
        return _known(info, parent) or _made(info, gone, parent)
    except (OSError, ValidationError, ValueError) as error:
        log.warning("%s is gone, and this becomes a new run: %s", gone, error)
        return None


def _known(identity: RunInfo, parent: Path) -> Path | None:
    """The run of that identity which an earlier process has made."""
    for file in sorted(parent.glob("*/run.json")):
        try:
            if RunInfo.load(file.parent).id == identity.id:
                return file.parent
        except RunNotFoundError:
            continue
    return None


def _made(identity: RunInfo, gone: Path, parent: Path) -> Path:
    folder = create_run_dir(identity.name, parent)
    identity.save(folder)
    log.warning(
        "%s is gone; %s goes on with that run, without what was journalled there", gone, folder
    )
    return folder
