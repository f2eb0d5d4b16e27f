"""Which run a checkpoint of Lightning's is of: what `BusControl` leaves in it, and reads again."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from runtime._checkpoint_run import identified_run, identity_text
from runtime._run import Run
from runtime._trainer_run import TrainerRun
from runtime.bridges._own_run import OwnRun

log = logging.getLogger("runtime")


def described(run: Run) -> dict[str, str]:
    """What a checkpoint keeps of its run."""
    identity = identity_text(run.dir, run.attempt)
    return (
        {"run": str(run.dir)} if identity is None else {"run": str(run.dir), "identity": identity}
    )


def begin_fit(own: OwnRun, checkpoint: Mapping[str, Any] | None, key: str) -> None:
    """Begin the run, or the next attempt at the one that made a checkpoint; on every rank.

    Args:
        own: What begins.
        checkpoint: What training goes on from, if anything, as Lightning has loaded it.
        key: What the callback's state is kept under.
    """
    run = own.run
    if checkpoint is None or not isinstance(run, TrainerRun):
        own.begin(None, None)
        return
    step = max(0, cast("int", checkpoint["global_step"]) - 1)  # as loggers count
    if run.rank:  # rank 0 tells the others which run it is
        own.begin(None, step)
        return
    state = cast("dict[str, dict[str, str]]", checkpoint.get("callbacks", {})).get(key, {})
    folder = Path(state["run"]) if "run" in state else None
    if folder is not None and not (folder / "run.json").is_file():
        folder = identified_run(folder, state.get("identity", ""), run.parent)
    if folder is None and not run.begun:
        log.warning("the checkpoint names no run that it is part of, so this is a new run")
    own.begin(folder, step if folder is not None else None)
