"""One case of `checkpoint.py`: saves a state amid training steps, with ours or with `torch.save`.

Started by it as `python _checkpoint_case.py FOLDER KIND MEGABYTES SAVES`; prints a `Sample`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _checkpoint_training import measure_saves, take_step, training

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoints import Checkpoints
from runtime._rng import RngState


def ours(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, asynchronous: bool
) -> tuple[Callable[[int], None], Callable[[], bool]]:
    """Save with `Checkpoints`, keeping one."""

    def failed(_: Path, error: Exception) -> None:
        raise error

    checkpoints = Checkpoints(
        folder, limit=1, asynchronous=asynchronous, complete=lambda _: None, failed=failed
    )

    def save(number: int) -> None:
        contents = CheckpointContents(
            model=model.state_dict(keep_vars=True),
            optimizer=optimizer.state_dict(),
            rng=RngState.capture(),
            state=lambda: json.dumps({"global_step": number}),
        )
        checkpoints.save(contents, step=number, best=None)

    return save, lambda: not checkpoints.wait(0)


def plain(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Callable[[int], None], Callable[[], bool]]:
    """Save with `torch.save` and nothing else: one file, no checksum, no fsync."""

    def save(number: int) -> None:
        path = folder / f"{number}.pt"
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        (folder / f"{number - 1}.pt").unlink(missing_ok=True)

    return save, lambda: False


def main() -> None:
    """Measure one kind."""
    folder, kind, megabytes, saves = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])
    model, optimizer = training(megabytes)
    if kind == "torch":
        save, busy = plain(folder, model, optimizer)
    else:
        save, busy = ours(folder, model, optimizer, asynchronous=kind == "ours")
    measure_saves(megabytes, saves, save, busy, partial(take_step, model, optimizer))
    shutil.rmtree(folder)
    folder.mkdir()


if __name__ == "__main__":
    main()
