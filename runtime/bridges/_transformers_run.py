"""Which run a training of Transformers' trainer is: its name and folder, and whether it goes on."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bus import TrainerInitialized
from runtime._checkpoint_files import checkpoint_path
from runtime._checkpoint_run import run_of
from runtime._trainer_run import TrainerRun
from runtime._trainer_setup import run_settings
from runtime.bridges._own_run import OwnRun, RunSettings

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

log = logging.getLogger("runtime")


def planned_run(settings: RunSettings, args: "TrainingArguments", model: object) -> TrainerRun:
    """A run of the trainer's name in its output folder, unless its user has said otherwise.

    Args:
        settings: What the user has said.
        args: The trainer's.
        model: Whose configuration the run remembers, if it is a module.
    """
    output = Path(args.output_dir)
    named = args.run_name if args.run_name != args.output_dir else None  # as up to version 4
    known = run_settings(model, args) if isinstance(model, torch.nn.Module) else args.to_dict()
    return settings.plan(
        name=named or output.resolve().name,
        project=getattr(args, "project", None),  # version 4 has none
        dir=output / "runs",
        config=known,
        opening=(TrainerInitialized(),),
    )


def begin_run(own: OwnRun, args: "TrainingArguments", state: "TrainerState") -> None:
    """Begin the run, or the next attempt at the one that made the checkpoint; on every rank."""
    run, step = own.run, state.global_step
    if not step or not isinstance(run, TrainerRun):
        own.begin(None, None)
        return
    if not state.is_world_process_zero:  # the first process tells the others
        own.begin(None, step)
        return
    saved = checkpoint_path(Path(args.output_dir), step)
    given = args.resume_from_checkpoint
    folder = run_of(saved, run.parent)
    if folder is None and isinstance(given, str):
        folder = run_of(Path(given), run.parent)
    if folder is None and not run.begun:
        log.warning(
            "training goes on behind step %d, and %s names no run that it was part of, so this is "
            "a new run",
            step,
            saved,
        )
    own.begin(folder, step if folder is not None else None)
