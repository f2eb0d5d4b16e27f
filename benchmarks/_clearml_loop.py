"""A training loop of nothing but logging, into ClearML, with its own client or with ours.

Usage: `_clearml_loop.py ours|client STEPS SECONDS`, the server in the environment, SECONDS a step;
prints the microseconds of each step's logging, and CPU and time from the first step to the end.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "reward")


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


Log = Callable[[dict[str, float], int], object]


def ours() -> tuple[Log, Callable[[], object]]:
    """A run with the ClearML sink."""
    import runtime  # noqa: PLC0415 - the other one is measured without it
    from sinks.clearml import ClearmlSink  # noqa: PLC0415

    run = runtime.Run(name="loop", dir=tempfile.mkdtemp(), sinks=[ClearmlSink()])
    return (lambda values, step: run.log(values, step=step)), run.close


def client() -> tuple[Log, Callable[[], object]]:
    """ClearML's own client, told to watch nothing but what it is given."""
    from clearml import Task  # noqa: PLC0415 - ours is measured without it

    task = Task.init(
        project_name="tests",
        task_name="loop",
        reuse_last_task_id=False,
        auto_connect_frameworks=False,
        auto_connect_arg_parser=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
    )
    logger = task.get_logger()

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            logger.report_scalar("train", name, value, step)

    return log, task.close


def spent() -> float:
    """CPU seconds of this process and those it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
