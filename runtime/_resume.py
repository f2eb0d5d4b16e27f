"""What a resumed training takes from its checkpoint, and where in the data it goes on."""

from dataclasses import dataclass
from typing import Any, cast

import torch

from runtime._arguments import TrainingArguments
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._state import TrainerState
from runtime._training_plan import TrainingPlan

LAST_LOGGED = "last_logged"
LOSSES = "losses"
EPOCH_OPEN = "epoch_open"
DATA = "data"


@dataclass(frozen=True, slots=True)
class Resumed:
    """The place where training goes on.

    Attributes:
        checkpoint: What was loaded.
        epoch: The epoch it goes on in, counted from 0.
        steps: Optimizer steps of that epoch that are done.
        skips: Whether their micro-batches are passed over; else the epoch's data begins anew.
        ends_epoch: Whether the epoch before is complete but its end was not reached: its hook,
            and what is logged, evaluated and saved there, still come.
    """

    checkpoint: LoadedCheckpoint
    epoch: int
    steps: int
    skips: bool
    ends_epoch: bool

    @property
    def data(self) -> dict[str, Any] | None:
        """Where iterable data was, if it could tell."""
        found = self.checkpoint.loop.get(DATA)
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    def rewind(self) -> None:
        """Put the generators where they stood when the epoch began, as far as that is known."""
        start = self.checkpoint.epoch_start
        if start is not None and self.steps and self.skips:
            start.restore()

    def restore_generators(self) -> None:
        """Put the generators where they stood when the checkpoint was made."""
        if self.checkpoint.rng is not None:
            self.checkpoint.rng.restore()


def place(
    checkpoint: LoadedCheckpoint, state: TrainerState, plan: TrainingPlan, args: TrainingArguments
) -> Resumed:
    """Find where a checkpoint's training goes on.

    At the end of an epoch whose strategies act then, what was due there is still done, because an
    unbroken training would have done it.
    """
    epoch, steps = divmod(state.global_step, plan.steps_per_epoch)
    by_epoch = "epoch" in (args.logging_strategy, args.eval_strategy, args.save_strategy)
    open_end = bool(checkpoint.loop.get(EPOCH_OPEN)) and steps == 0 and state.global_step > 0
    return Resumed(
        checkpoint,
        epoch=epoch,
        steps=steps,
        skips=not args.ignore_data_skip,
        ends_epoch=by_epoch and open_end,
    )


def last_logged(resumed: Resumed | None, step: int) -> int:
    """The step of the last log entry before the checkpoint; this step if it is not known."""
    found = resumed.checkpoint.loop.get(LAST_LOGGED) if resumed is not None else None
    return found if isinstance(found, int) else step


def carried_losses(resumed: Resumed | None, device: torch.device) -> torch.Tensor | None:
    """The sum of losses since that entry; None if the checkpoint has none."""
    found = resumed.checkpoint.loop.get(LOSSES) if resumed is not None else None
    return found.to(device) if isinstance(found, torch.Tensor) else None
