"""Starts one program as several ranks, as a launcher does."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Ended:
    """How one rank ended; the code is None where it hung."""

    rank: int
    code: int | None
    out: str
    err: str


def environments(size: int) -> list[dict[str, str]]:
    """What a launcher sets for each rank; rank 0 holds the store, at a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def launch(program: str, *arguments: object, size: int, timeout: float) -> list[Ended]:
    """Run a program as `size` ranks until all have ended, or for so many seconds at most."""
    ranks = [
        subprocess.Popen(  # noqa: S603 - a program of ours
            [sys.executable, program, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments(size)
    ]
    deadline = time.monotonic() + timeout
    ended: list[Ended] = []
    for rank, process in enumerate(ranks):
        code: int | None
        try:
            out, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            code = process.returncode
        except subprocess.TimeoutExpired:
            for each in ranks:
                each.kill()
            out, err = process.communicate()
            code = None
        ended.append(Ended(rank, code, out, err[-4000:]))
    return ended
