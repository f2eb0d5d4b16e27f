"""A training loop of nothing but logging, into Neptune, with its own client or with ours.

Usage: `_neptune_loop.py ours|client STEPS SECONDS`, the server in the environment, SECONDS a step;
prints the microseconds of each step's logging, and CPU and time from the first step to the end.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "reward")

Log = Callable[[dict[str, float], int], object]


def main() -> None:
    """Log five metrics a step, and wait until the server has them."""
    mode, steps, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    log, close = ours() if mode == "ours" else client()
    took: list[float] = []
    cpu, started = spent(), time.perf_counter()
    for step in range(1, steps + 1):
        values = {name: step + index / 8 for index, name in enumerate(NAMES)}
        before = time.perf_counter()
        log(values, step)
        took.append((time.perf_counter() - before) * 1e6)
        time.sleep(pause)
    looped = time.perf_counter() - started
    close()
    seconds = time.perf_counter() - started
    found = {"log": took, "loop": looped, "close": seconds - looped, "cpu": spent() - cpu}
    print(json.dumps(found))


def ours() -> tuple[Log, Callable[[], object]]:
    """A run with the Neptune sink."""
    import runtime  # noqa: PLC0415 - the other one is measured without it
    from sinks.neptune import NeptuneSink  # noqa: PLC0415

    run = runtime.Run(name="loop", dir=tempfile.mkdtemp(), sinks=[NeptuneSink(project="team/demo")])
    return (lambda values, step: run.log(values, step=step)), run.close


def client() -> tuple[Log, Callable[[], object]]:
    """Neptune's own client, told to watch nothing but what it is given."""
    import neptune  # noqa: PLC0415 - ours is measured without it

    from tests.vendors.neptune_client import QUIET  # noqa: PLC0415

    run = neptune.init_run(project="team/demo", **QUIET)

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            run[f"finetuning/train/{name}"].append(value, step=step)

    return log, run.stop


def spent() -> float:
    """CPU seconds of this process and those it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
