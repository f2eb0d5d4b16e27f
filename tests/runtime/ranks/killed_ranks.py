"""Jobs of three ranks of which one is killed in mid-training; forked, so that torch loads once.

line of standard input: VICTIM FOLDER     (see tests/runtime/trainer/nursery.py)
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from runtime import Run
from tests.runtime.ranks.launching import environments
from tests.runtime.trainer.nursery import serve
from tests.waiting import eventually

SIZE = 3


def train(folder: Path) -> None:
    """One rank: an all-reduce in each step, until one of them breaks."""
    dist.init_process_group("gloo")
    with Run("killed", dir=folder) as run:
        for step in range(1_000_000):
            dist.all_reduce(torch.ones(1))
            run.safe_point(step)
            if step == 50:
                (folder / f"rank{run.rank}.going").touch()


def fork(folder: Path, environment: dict[str, str]) -> int:
    """Start one rank; return its number."""
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environment)
    try:
        train(folder)
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is an exception
        os._exit(1)
    os._exit(0)


def kill_one(line: str) -> None:
    """Start the ranks, kill one, and write down how all of them ended."""
    victim, name = line.split(" ", 1)
    folder = Path(name)
    pids = [fork(folder, environment) for environment in environments(SIZE)]
    eventually(lambda: len([*folder.glob("*.going")]) == SIZE, seconds=90)
    os.kill(pids[int(victim)], signal.SIGKILL)
    began = time.monotonic()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    found = {"codes": codes, "seconds": time.monotonic() - began}
    (folder / "ended.json").write_text(json.dumps(found))


if __name__ == "__main__":
    serve(kill_one)
