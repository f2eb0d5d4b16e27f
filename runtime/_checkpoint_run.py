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
from runtime._checkpoint_contents import LoadedCheckpoint

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
    try:
        info = RunInfo.load(run)
    except RunNotFoundError:
        return  # it lives in memory: its disk refused
    last = AttemptInfo(number=attempt, pid=0, host="", started=info.created, outcome="crashed")
    text = info.model_copy(update={"attempts": [last]}).model_dump_json(indent=2)
    (folder / RUN_IDENTITY).write_text(f"{text}\n", encoding="utf-8")


def run_of(checkpoint: LoadedCheckpoint, parent: Path) -> Path | None:
    """The folder of the run that made a checkpoint.

    Args:
        checkpoint: It may be of an earlier version or of Transformers, and know no run.
        parent: The folder of runs. If the run's own folder is gone, one with its identity is made
            there, in which earlier attempts have left no journal.
    """
    try:
        named = (checkpoint.path / RUN_PATH).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = (checkpoint.path.parent / named).resolve()
    if (folder / "run.json").is_file():
        return folder
    try:
        identity = RunInfo.model_validate_json((checkpoint.path / RUN_IDENTITY).read_bytes())
        return _known(identity, parent) or _made(identity, folder, parent)
    except (OSError, ValidationError, ValueError) as error:
        log.warning("%s is gone, and this becomes a new run: %s", folder, error)
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
