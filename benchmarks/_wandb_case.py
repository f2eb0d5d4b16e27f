"""Logs numbers at a pace, with W&B's own client or with ours, and prints what that cost as JSON.

Usage: `_wandb_case.py client|ours CALLS FOLDER`; the server's address and key come from the
environment.
"""

import json
import resource
import sys
import time

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "epoch")
PAUSE = 0.01


def cpu_seconds() -> tuple[float, float]:
    """CPU time of this process, and of those it has started and waited for."""
    return tuple(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def log_with_client(calls: int, folder: str) -> tuple[float, float]:
    """As a program with W&B's own client does it."""
    import wandb  # noqa: PLC0415 - one of the two

    before = cpu_seconds()[0]
    settings = wandb.Settings(console="off", x_disable_stats=True, root_dir=folder)
    with wandb.init(project="p", settings=settings) as run:
        for step in range(calls):
            run.log({name: step + index / 8 for index, name in enumerate(NAMES)}, step=step)
            time.sleep(PAUSE)
    own, _ = cpu_seconds()
    wandb.teardown()
    return own - before, cpu_seconds()[1]


def log_with_ours(calls: int, folder: str) -> tuple[float, float]:
    """The same with a run of ours and its sink, in a thread of this process."""
    import torch  # noqa: F401, PLC0415 - a training has it

    import runtime  # noqa: PLC0415
    from sinks.wandb import WandbSink  # noqa: PLC0415

    before = cpu_seconds()[0]
    with runtime.Run(name="run", project="p", dir=folder, sinks=[WandbSink()]) as run:
        for step in range(calls):
            run.log({name: step + index / 8 for index, name in enumerate(NAMES)}, step=step)
            time.sleep(PAUSE)
    own, children = cpu_seconds()
    return own - before, children


def main() -> None:
    """Log, and tell."""
    who, calls, folder = sys.argv[1:]
    case = log_with_client if who == "client" else log_with_ours
    own, children = case(int(calls), folder)
    sys.stdout.write(json.dumps({"own": own, "children": children}) + "\n")


if __name__ == "__main__":
    main()
