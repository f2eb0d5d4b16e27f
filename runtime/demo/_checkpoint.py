"""Checkpoints that are complete or not there, and that execute nothing when they are read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from runtime.demo._options import Recipe

_FOLDER: Final = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a run was after a step.

    The position in the data is `step` itself: batches are drawn from the seed and the step.

    Attributes:
        recipe: The numbers it was trained by.
        step: Optimizer steps taken.
        evaluations: The validation loss by step so far, from which the best follows.
        model: The weights.
        optimizer: What the optimizer remembers.
        random_state: Of torch's generator on the CPU.
    """

    recipe: Recipe
    step: int
    evaluations: Mapping[int, float]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, object]
    random_state: Tensor

    def save(self, run_dir: Path) -> Path:
        """Writes `checkpoints/step-<step>.pt`: to a temporary name, to the disk, then renamed.

        Returns:
            The file. Whoever sees it sees all of it, even after a power loss.

        Raises:
            OSError: The disk refused; an earlier file of that name is still there.
        """
        path = _path(run_dir, self.step)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(self._content(), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
        return path

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Reads a checkpoint; tensors and plain values alone, so nothing in it can run.

        Raises:
            OSError: The file cannot be read.
            pickle.UnpicklingError: It holds more than tensors and plain values.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        return cls(
            recipe=Recipe.model_validate(content["recipe"]),
            step=content["step"],
            evaluations=content["evaluations"],
            model=content["model"],
            optimizer=content["optimizer"],
            random_state=content["random_state"],
        )

    def _content(self) -> dict[str, object]:
        return {
            "recipe": self.recipe.model_dump(),
            "step": self.step,
            "evaluations": dict(self.evaluations),
            "model": dict(self.model),
            "optimizer": dict(self.optimizer),
            "random_state": self.random_state,
        }


def checkpoints(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest step first."""
    return sorted((run_dir / _FOLDER).glob("step-*.pt"))


def forget_old(run_dir: Path, *, newest: int, best_step: int) -> None:
    """Deletes all checkpoints but the newest ones and the best one."""
    best = _path(run_dir, best_step)
    for path in checkpoints(run_dir)[:-newest]:
        if path != best:
            path.unlink(missing_ok=True)


def _path(run_dir: Path, step: int) -> Path:
    return run_dir / _FOLDER / f"step-{step:06}.pt"


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
