"""One rank of the job that test_job.py starts: one stall after the other, each in its own run.

What stands still goes on as soon as rank 0 has reported it, so nothing here waits for a time.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset

from bus import EventStream, StallDetected, StragglerDetected
from runtime import Run
from tests.waiting import HANG

FOLDER = Path(sys.argv[1])
RANK = int(os.environ["RANK"])
STALLED = 300


def meet() -> None:
    torch.distributed.all_reduce(torch.ones(1))


def wait_for(told: Path) -> None:
    deadline = time.monotonic() + HANG
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def watched(name: str, floor: float = 3.0) -> tuple[Run, Path]:
    """A run whose rank 0 writes a file once it has reported something."""
    run, told = Run(name, dir=FOLDER / "runs", watchdog=floor), FOLDER / f"{name}-told"

    @run.subscribe(StallDetected, StragglerDetected)
    async def tell(events: EventStream[StallDetected | StragglerDetected]) -> None:
        async for _ in events:
            told.touch()

    return run, told


def sleeping() -> None:
    """Rank 1 does something else while the others wait for it."""
    run, told = watched("sleeping")
    with run:
        for step in range(STALLED + 5):
            if step == STALLED and RANK == 1:
                wait_for(told)
            meet()
            time.sleep(0.005)
            run.safe_point(step)


def skipping() -> None:
    """Rank 1 leaves out a collective and goes on without the others."""
    run, told = watched("skipping")
    with run:
        for step in range(STALLED):
            meet()
            time.sleep(0.005)
            run.safe_point(step)
        while RANK == 1 and not told.exists():
            time.sleep(0.01)
            run.safe_point(STALLED)
        meet()
        run.safe_point(STALLED)


def stopped() -> None:
    """Rank 2 is stopped by a signal, and so is its watchdog."""
    run, told = watched("stopped")
    with run:
        for step in range(STALLED + 5):
            if step == STALLED and RANK == 2:
                script = f"until test -e {told}; do sleep 0.1; done; kill -CONT {os.getpid()}"
                waker = subprocess.Popen(["timeout", "60", "sh", "-c", script])  # noqa: S603, S607 - ours
                os.kill(os.getpid(), 19)
                waker.wait()
            meet()
            time.sleep(0.005)
            run.safe_point(step)


def dawdling() -> None:
    """Rank 1 takes much longer than the others, which wait for it in each step."""
    run, told = watched("dawdling", floor=0.5)
    with run:
        step, deadline = 0, time.monotonic() + HANG
        going = torch.ones(1)
        while going.item() and time.monotonic() < deadline:
            step += 1
            time.sleep(0.04 if RANK == 1 else 0.001)
            going.fill_(not told.exists())
            torch.distributed.all_reduce(going, torch.distributed.ReduceOp.MIN)
            run.safe_point(step)


class Numbers(Dataset[int]):
    """Enough samples for the workers to be busy."""

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> int:
        return index


def killing() -> None:
    """A worker of rank 1's loader is killed, on which torch fails, or a pipe from it breaks."""
    with (
        suppress(RuntimeError, ConnectionError),
        Run("killing", dir=FOLDER / "runs", watchdog=2.0) as run,
    ):
        loader = iter(DataLoader(Numbers(), num_workers=2, batch_size=4))
        for step in range(1_000_000):
            next(loader)
            if RANK == 1 and step == 20:
                worker = loader._workers[0]
                os.kill(worker.pid, 9)
                (FOLDER / "killed").write_text(str(worker.pid))
            run.safe_point(step)


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    for scenario in (sleeping, skipping, stopped, dawdling, killing):
        scenario()
        (FOLDER / f"{scenario.__name__}-{RANK}").touch()
