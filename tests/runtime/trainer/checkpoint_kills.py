"""Kills a process that saves checkpoints, again and again, and says what is not as promised.

`run_kill_trials(count, seed)` is for tests and for the soak benchmark, which load this file by its
path. A trial: a child saves as fast as the disk lets it, each checkpoint's tensors holding its
number, some of them at one step that is replaced each time, and says through a pipe which are
complete. After SIGKILL at a random moment

- every visible checkpoint is whole, and all its files are of one save;
- the newest save that was told complete, or a later one, is visible;
- the next process that saves there clears whatever is half written.

Children are forked from one process that has imported everything and started no thread.
"""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import CheckpointError
from runtime._checkpoint_files import checkpoint_step, clear_leftovers, find_checkpoints
from runtime._checkpoint_load import load_checkpoint
from runtime._checkpoints import Checkpoints

ROOT: Final = Path(__file__).resolve().parents[3]


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


def nursery() -> None:
    """Fork a child for each line of standard input (folder, whether it replaces); tell its end."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        folder, replacing = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            try:
                child(Path(folder), replacing=replacing == "True")
            finally:
                os._exit(1)  # a child ends by being killed
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


@contextlib.contextmanager
def _nursery() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        if process.wait(10) != 0:
            raise RuntimeError("the process that forks the children failed")


class Lines:
    """Whole lines of a pipe, waited for with a deadline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self, timeout: float) -> str | None:
        """The next line, or None if none comes in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                return None
            self._rest += os.read(self._descriptor, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def trial(
    process: "subprocess.Popen[bytes]", lines: Lines, folder: Path, chance: random.Random
) -> list[str]:
    """Start a child, kill it at a random moment, and return what is wrong afterwards."""
    replacing = chance.random() < 0.4
    assert process.stdin is not None
    process.stdin.write(f"{folder}\t{replacing}\n".encode())
    started = lines.next(20) or ""
    pid = int(started.removeprefix("pid "))
    complete = int(lines.next(20) or 0)
    deadline = time.monotonic() + chance.uniform(0, 0.15)
    while (line := lines.next(max(0.0, deadline - time.monotonic()))) is not None:
        complete = int(line)
        if time.monotonic() > deadline:
            break
    os.kill(pid, signal.SIGKILL)
    while not (line := lines.next(20) or "ended never").startswith("ended"):
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
    with tempfile.TemporaryDirectory() as parent, _nursery() as process:
        assert process.stdout is not None
        lines = Lines(process.stdout.fileno())
        for number in range(count):
            folder = Path(parent) / str(number)
            folder.mkdir()
            wrong = trial(process, lines, folder, chance)
            failures += [f"trial {number}, seed {seed}: {each}" for each in wrong]
    return failures


if __name__ == "__main__":
    nursery()
