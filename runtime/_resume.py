"""What a checkpoint keeps of the loop, and where a resumed training goes on with it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import torch

from runtime._arguments import TrainingArguments
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._rng import RngState
from runtime._state import TrainerState
from runtime._training_plan import TrainingPlan

LAST_LOGGED: Final = "last_logged"
LOSSES: Final = "losses"
GRAD_NORM: Final = "grad_norm"
LEARNING_RATE: Final = "learning_rate"
DATA: Final = "data"
GUARD: Final = "guard"
_EPOCH: Final = "epoch"
_TAKEN: Final = "taken"
_OPEN: Final = "epoch_open"
_PARTS: Final = "accumulation"
_BATCHES: Final = "batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlace:
    """Where a training is in its data.

    Attributes:
        epoch: The epoch, counted from 0.
        taken: Its micro-batches that are done.
        is_open: Whether the end of an epoch is still to come: of this one, or of the one before
            if nothing of this one is done.
        accumulation: Micro-batches of an optimizer step.
        batches: Micro-batches of an epoch; None if nobody knows.
    """

    epoch: int
    taken: int
    is_open: bool
    accumulation: int
    batches: int | None

    def to_dict(self) -> dict[str, object]:
        """What a checkpoint keeps of it."""
        return {
            _EPOCH: self.epoch,
            _TAKEN: self.taken,
            _OPEN: self.is_open,
            _PARTS: self.accumulation,
            _BATCHES: self.batches,
        }


@dataclass(frozen=True, slots=True)
class Resumed:
    """The place where training goes on.

    Attributes:
        checkpoint: What was loaded.
        epoch: The epoch it goes on in, counted from 0.
        batches: Micro-batches of it that are passed over, because they are done.
        is_complete: Whether there is no step left to take.
        owes_end: Whether an epoch's end is to come at which something is logged, evaluated or
            saved, as far as that epoch is over.
    """

    checkpoint: LoadedCheckpoint
    epoch: int
    batches: int
    is_complete: bool
    owes_end: bool

    @property
    def data(self) -> dict[str, Any] | None:
        """Where iterable data was, if it could tell and is to be put back there."""
        found = self.checkpoint.loop.get(DATA)
        return cast("dict[str, Any]", found) if isinstance(found, dict) and self.batches else None

    @property
    def epoch_start(self) -> RngState | None:
        """Where the generators stood when the epoch began, if it is begun and that is known."""
        return self.checkpoint.epoch_start if self.batches else None

    def as_place(self, accumulation: int, batches: int | None) -> EpochPlace:
        """What a checkpoint keeps that is made before anything else is done."""
        return EpochPlace(
            epoch=self.epoch,
            taken=self.batches,
            is_open=self.checkpoint.loop.get(_OPEN) is True,
            accumulation=accumulation,
            batches=batches,
        )

    def with_generators(self, state: RngState) -> "Resumed":
        """The same place, with the generators further on than the checkpoint says."""
        return replace(self, checkpoint=replace(self.checkpoint, rng=state))

    def restore_generators(self) -> None:
        """Put the generators where they stood when the checkpoint was made."""
        if self.checkpoint.rng is not None:
            self.checkpoint.rng.restore()


def place(
    checkpoint: LoadedCheckpoint,
    state: TrainerState,
    plan: TrainingPlan,
    args: TrainingArguments,
    *,
    batch_size: int,
    batches: int | None,
) -> Resumed:
    """Find where a checkpoint's training goes on.

    The checkpoint says it, unless batches are made otherwise now or it is one of Transformers';
    then, as there, the steps taken are divided by those of an epoch.

    Args:
        checkpoint: What was loaded.
        state: Its state, as it was written.
        plan: How long to train now.
        args: The arguments now.
        batch_size: Samples of a micro-batch now.
        batches: Micro-batches of an epoch now; None if nobody knows.
    """
    loop, parts = checkpoint.loop, args.gradient_accumulation_steps
    made = {_PARTS: parts, _BATCHES: batches}
    alike = made.items() <= loop.items() and state.train_batch_size == batch_size
    found = _kept_place(loop) if alike else None
    if found is None:
        epoch, steps = divmod(state.global_step, max(plan.steps_per_epoch, 1))
        found = epoch, steps * parts
    epoch, taken = found
    by_epoch = "epoch" in (args.logging_strategy, args.eval_strategy, args.save_strategy)
    return Resumed(
        checkpoint,
        epoch=epoch,
        batches=0 if args.ignore_data_skip else taken,
        is_complete=state.global_step >= plan.max_steps,
        owes_end=by_epoch and loop.get(_OPEN) is True and state.global_step > 0,
    )


def _kept_place(loop: Mapping[str, object]) -> tuple[int, int] | None:
    epoch, taken = loop.get(_EPOCH), loop.get(_TAKEN)
    return (epoch, taken) if isinstance(epoch, int) and isinstance(taken, int) else None


def kept_number(resumed: Resumed | None, name: str) -> float | None:
    """A number that the checkpoint keeps of the loop."""
    found = resumed.checkpoint.loop.get(name) if resumed is not None else None
    return found if isinstance(found, (int, float)) else None


def kept_tensor(resumed: Resumed | None, name: str, device: torch.device) -> torch.Tensor | None:
    """A tensor that the checkpoint keeps of the loop."""
    found = resumed.checkpoint.loop.get(name) if resumed is not None else None
    return found.to(device) if isinstance(found, torch.Tensor) else None


def kept_mapping(resumed: Resumed | None, name: str) -> Mapping[str, object]:
    """A dictionary that the checkpoint keeps of the loop; an empty one where it has none."""
    found = resumed.checkpoint.loop.get(name) if resumed is not None else None
    return cast("Mapping[str, object]", found) if isinstance(found, dict) else {}
