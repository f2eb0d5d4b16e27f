"""Starts one program as several ranks, as a launcher does."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.interpreter import shared_interpreter

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
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        said = [
            [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in ("out", "err")]
            for _ in range(size)
        ]
        ranks = [
            stack.enter_context(
                shared_interpreter().start(
                    [program, *arguments], env=environment, stdout=out.fileno(), stderr=err.fileno()
                )
            )
            for environment, (out, err) in zip(environments(size), said, strict=True)
        ]
        codes: list[int | None] = []
        for process in ranks:
            try:
                codes.append(process.wait(max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                codes.append(None)
                for each in ranks:
                    each.kill()
        for out, err in said:
            out.seek(0)
            err.seek(0)
        return [
            Ended(rank, code, out.read(), err.read()[-4000:])
            for rank, (code, (out, err)) in enumerate(zip(codes, said, strict=True))
        ]
