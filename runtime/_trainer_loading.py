"""Finds and loads the checkpoint that a training goes on from, the same one in every process."""

import os
from pathlib import Path
from typing import cast

from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._checkpoint_errors import CheckpointError, CheckpointNotFoundError
from runtime._checkpoint_load import (
    last_good_checkpoint,
    load_checkpoint,
    load_weights,
    verify,
)
from runtime._checkpoints import Checkpoints
from runtime._sharded_state import load_local_weights, placed_optimizer
from runtime._trainer_base import TrainerBase
from runtime._training_state import load_optimizer, load_schedule


class Loading(TrainerBase):
    """The methods that read checkpoints."""

    _checkpoints: Checkpoints

    def find_checkpoint(
        self, wanted: "str | os.PathLike[str] | bool | None"
    ) -> LoadedCheckpoint | None:
        """Load the checkpoint to go on from; None to begin anew.

        Args:
            wanted: A folder, or True for the newest one in `output_dir` that is intact.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        if wanted is None or wanted is False:
            return None
        self._checkpoints.wait()
        if wanted == "" or not isinstance(wanted, (str, os.PathLike, bool)):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise TypeError(
                f"resume_from_checkpoint={wanted!r} names no checkpoint; pass its folder, or True "
                "for the newest one in output_dir"
            )
        path = self._intact(None if wanted is True else Path(cast("str", wanted)))
        sharded = self._sharded is not None
        checkpoint = load_checkpoint(
            path,
            device=self.device,
            verified=True,
            world=self._group.world,
            weights=not sharded,
        )
        if sharded:
            load_local_weights(self.model, path)
        else:
            load_weights(self.model, checkpoint.model)
        return checkpoint

    def _intact(self, wanted: Path | None) -> Path:
        """The checkpoint to load, or the newest; the first process looks, and all hear of it."""
        found, fault = wanted, None
        if not self._group.world.rank:
            try:
                found = self._looked_at(wanted)
            except CheckpointError as error:
                fault = error
        told = self._group.said_by_first((str(found), None if fault is None else str(fault)))
        if fault is not None:
            raise fault
        if told[1] is not None:
            raise CheckpointError(told[1])
        return Path(told[0])

    def _looked_at(self, wanted: Path | None) -> Path:
        if wanted is not None:
            verify(wanted)
            return wanted
        found = last_good_checkpoint(self.output_dir)
        if found is None:
            raise CheckpointNotFoundError(
                self.output_dir,
                "it has no checkpoint-STEP that is intact; train without "
                "resuming, or set output_dir to where the checkpoints are",
            )
        return found

    def load_training_state(self, checkpoint: LoadedCheckpoint) -> None:
        """Put optimizer, schedule and scaler where they stood."""
        if checkpoint.optimizer is not None and self.optimizer is not None:
            state = placed_optimizer(checkpoint.optimizer, checkpoint.path, self.optimizer)
            load_optimizer(self.optimizer, state, checkpoint.path)
        if checkpoint.scheduler is not None and self.lr_scheduler is not None:
            load_schedule(self.lr_scheduler, checkpoint.scheduler, checkpoint.path)
        scaler = self._precision.scaler
        if scaler is not None and checkpoint.scaler is not None:
            scaler.load_state_dict(checkpoint.scaler)
