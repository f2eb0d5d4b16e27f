"""Kills a process that saves checkpoints, again and again, and says what is not as promised.

`run_kill_trials(count, seed)` is for tests and the soak benchmark.

A trial: a child saves as fast as the disk lets it, each checkpoint's tensors holding its number,
some of them at one step that is replaced each time, and says through a pipe which are complete.
After SIGKILL at a random moment

- every visible checkpoint is whole, and all its files are of one save;
- the newest save that was told complete, or a later one, is visible;
- the next process that saves there clears whatever is half written.
"""

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import CheckpointError
from runtime._checkpoint_files import checkpoint_step, clear_leftovers, find_checkpoints
from runtime._checkpoint_load import load_checkpoint
from runtime._checkpoints import Checkpoints
from tests.runtime.trainer.nursery import Nursery, serve, started


def from_line(line: str) -> None:
    """Be the child that a line asks for: a folder, and whether it replaces."""
    folder, replacing = line.split("\t")
    child(Path(folder), replacing=replacing == "True")


def child(folder: Path, *, replacing: bool) -> None:
    """Save for ever, telling each complete checkpoint on standard output."""

    def complete(_: object) -> None:
        os.write(1, f"{told.pop(0)}\n".encode())

    told: list[int] = []
    checkpoints = Checkpoints(
        folder, limit=2, asynchronous=True, complete=complete, failed=lambda *_: os._exit(3)
    )
    weight, moment = torch.empty(50_000), torch.empty(300_000)
    for number in range(1, 1_000_000):
        weight.fill_(number)
        moment.fill_(number)
        told.append(number)
        contents = CheckpointContents(
            model={"w": weight},
            optimizer={"m": moment},
            state=lambda number=number: f'{{"number": {number}}}',
        )
        checkpoints.save(contents, step=7 if replacing else number, best=None)


def trial(nursery: Nursery, folder: Path, chance: random.Random) -> list[str]:
    """Start a child, kill it at a random moment, and return what is wrong afterwards."""
    replacing = chance.random() < 0.4
    pid = nursery.fork(f"{folder}\t{replacing}")
    lines = nursery.lines
    complete = int(lines.next(60) or 0)
    deadline = time.monotonic() + chance.uniform(0, 0.15)
    while (line := lines.next(max(0.0, deadline - time.monotonic()))) is not None:
        complete = int(line)
        if time.monotonic() > deadline:
            break
    os.kill(pid, signal.SIGKILL)
    while not (line := lines.next(60) or "ended never").startswith("ended"):
        complete = int(line)
    wrong = [] if line == "ended -9" else [f"the child {line}"]
    return wrong + inspect(folder, complete, replacing=replacing)


def inspect(folder: Path, complete: int, *, replacing: bool) -> list[str]:
    """What is wrong with the checkpoints of a process that was killed."""
    # Killed between the two renames of a replacement, it is the next process that undoes it.
    wrong = [] if replacing else _broken(folder)
    clear_leftovers(folder)
    wrong += _broken(folder)
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    wrong += [f"{name} was not cleared" for name in hidden]
    numbers = [_number(path) for path in find_checkpoints(folder)]
    if max(numbers, default=0) < complete:
        wrong.append(f"{complete} was complete, and only {numbers} are there")
    return wrong


def _broken(folder: Path) -> list[str]:
    wrong = []
    for path in find_checkpoints(folder):
        try:
            number = _number(path)
        except CheckpointError as error:
            wrong.append(str(error))
        else:
            if checkpoint_step(path) not in {7, number}:
                wrong.append(f"{path.name} holds {number}")
    return wrong


def _number(path: Path) -> int:
    """The number that all files of a checkpoint hold; -1 if they disagree."""
    loaded = load_checkpoint(path, device=torch.device("cpu"))
    assert loaded.state is not None
    assert loaded.optimizer is not None
    moment = loaded.optimizer["m"]
    assert isinstance(moment, torch.Tensor)
    found = {*loaded.model["w"].unique().tolist(), *moment.unique().tolist()}
    found.add(loaded.state["number"])
    return int(found.pop()) if len(found) == 1 else -1


def run_kill_trials(count: int, seed: int) -> list[str]:
    """Run so many trials; return what was wrong in any of them."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    failures = []
    with tempfile.TemporaryDirectory() as parent, started(__file__) as nursery:
        for number in range(count):
            folder = Path(parent) / str(number)
            folder.mkdir()
            wrong = trial(nursery, folder, chance)
            failures += [f"trial {number}, seed {seed}: {each}" for each in wrong]
    return failures


if __name__ == "__main__":
    serve(from_line)
