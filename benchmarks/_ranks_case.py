"""One rank of `ranks.py`: a loop whose safe points are timed, call by call.

    python benchmarks/_ranks_case.py FOLDER BLOCKS SECONDS

Rank 0 prints, as one line of JSON, the durations of its calls in nanoseconds, block by block:
blocks whose safe points all ranks agree on, and blocks of a bus that knows no other ranks.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bus import Bus
from runtime import Run


def block(call: Callable[[int], object], seconds: float) -> list[int]:
    """Time the call once a step for so long; a step is some tiny operations on one thread."""
    operand = torch.ones(64, 64)
    durations: list[int] = []
    clock = time.perf_counter_ns
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        for _ in range(20):
            operand = (operand @ operand).clamp_(-1, 1)
        step += 1
        began = clock()
        call(step)
        durations.append(clock() - began)
    return durations


def main(folder: Path, blocks: int, seconds: float) -> None:
    """Alternate blocks; the run of all ranks is open during every one of them."""
    torch.set_num_threads(1)
    alone = Bus(None)
    found: dict[str, list[list[int]]] = {"agreed": [], "alone": []}
    with Run("ranks", dir=folder) as run:
        total = 0

        def agreed(_step: int) -> object:
            nonlocal total
            total += 1
            return run.safe_point(total)

        for number in range(2 * blocks + 1):
            if number % 2:
                found["agreed"].append(block(agreed, seconds))
            else:
                found["alone"].append(block(alone.control.safe_point, seconds))
        rank = run.rank
    alone.close(5)
    if rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
