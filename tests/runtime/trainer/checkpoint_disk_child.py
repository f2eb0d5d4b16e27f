"""Saves checkpoints on disks that fail; a script, for a mount namespace of its own.

    unshare --mount python checkpoint_disk_child.py EMPTY_FOLDER

Prints what happened in each scenario as one JSON object for the tests that started it.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_load import verify
from runtime._checkpoints import Checkpoints


def mount(folder: Path, options: str) -> None:
    """Give the folder a file system of its own, in memory, or change its options."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 - fixed but for the folder


def visible(folder: Path) -> list[str]:
    """Everything in the folder, after making sure that the checkpoints are whole."""
    for path in folder.glob("checkpoint-*"):
        verify(path)
    return sorted(path.name for path in folder.iterdir() if path.name != "ballast")


def run(folder: Path, spoil: Callable[[], None], mend: Callable[[], None]) -> dict[str, object]:
    """Save before, while and after the disk fails."""
    failed: list[tuple[str, str]] = []
    checkpoints = Checkpoints(
        folder,
        limit=None,
        asynchronous=True,
        complete=lambda _: None,
        failed=lambda path, error: failed.append((path.name, repr(error))),
    )
    after = []
    for step, before in ((1, lambda: None), (2, spoil), (3, mend)):
        before()
        contents = CheckpointContents(
            model={"w": torch.zeros(100_000)},
            optimizer={"m": torch.zeros(100_000)},
            state=lambda: "{}",
        )
        checkpoints.save(contents, step=step, best=None)
        assert checkpoints.wait(10)
        after.append(visible(folder))
    return {"failed": failed, "after_failure": after[1], "at_the_end": after[2]}


def no_room_for_weights(folder: Path) -> dict[str, object]:
    """The disk is full before the weights are written, and gets space again."""
    return _full(folder, 3_100_000)


def no_room_for_the_optimizer(folder: Path) -> dict[str, object]:
    """The disk has room for the weights only, and gets more."""
    return _full(folder, 2_700_000)


def _full(folder: Path, size: int) -> dict[str, object]:
    mount(folder, "size=4m")
    ballast = folder / "ballast"
    return run(folder, lambda: _fill(ballast, size), ballast.unlink)


def _fill(path: Path, size: int) -> None:
    path.write_bytes(bytes(size))


def read_only(folder: Path) -> dict[str, object]:
    """The disk becomes read-only, as after an error of its own, and writable again."""
    mount(folder, "size=4m")
    return run(folder, lambda: mount(folder, "remount,ro"), lambda: mount(folder, "remount,rw"))


if __name__ == "__main__":
    answers = {}
    for scenario in (no_room_for_weights, no_room_for_the_optimizer, read_only):
        place = Path(sys.argv[1]) / scenario.__name__
        place.mkdir()
        answers[scenario.__name__] = scenario(place)
    print(json.dumps(answers))  # noqa: T201 - the answer
