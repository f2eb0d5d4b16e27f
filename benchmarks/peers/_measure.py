"""One block: a fresh process opens one peer and times its log call, paced and flooded.

Started by the driver, which gives it a folder of its own and a plan on the command line:
`python -m benchmarks.peers._measure ADAPTER DISTRIBUTION FOLDER PLAN`. The result is written to
`block.json` in that folder. Torch keeps to one thread, so that a peer's helper thread or process
finds a free core as it would beside a training loop that waits for its GPU.
"""

import importlib
import os
import random
import signal
import sys
import time
from array import array
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import cast

from benchmarks.peers._records import Block, Log, Plan, Session

NAMES = ("loss", "accuracy", "grad_norm", "lr", "tokens_per_second", "step_time")


def open_session(adapter: str, folder: Path) -> Session:
    """Import the adapter, and with it the peer, and open a run in `folder`."""
    module, function = adapter.split(":")
    loaded = importlib.import_module(f"benchmarks.peers.adapters.{module}")
    return cast("Callable[[Path], Session]", getattr(loaded, function))(folder)


def make_work() -> Callable[[], object]:
    """Return about a millisecond of torch work that evicts the caller's caches."""
    import torch  # noqa: PLC0415 -- comet_ml insists on being imported before torch

    torch.set_num_threads(1)
    left, right = torch.randn(192, 192), torch.randn(192, 192)
    stream = torch.randn(1 << 20)  # 4 MiB: more than a core's own caches

    def work() -> object:
        torch.matmul(left, right)
        torch.matmul(right, left)
        return stream.mul_(1.0)

    return work


class Meter:
    """Makes fresh scalars and times the calls of one session.

    Attributes:
        asked: Calls made so far.
    """

    def __init__(self, log: Log, plan: Plan) -> None:
        self.asked = 0
        self._log = log
        self._plan = plan
        self._random = random.Random(0)  # noqa: S311 -- any fresh number will do

    def paced(self, work: Callable[[], object]) -> tuple[list[int], list[int]]:
        """Call once per period, right after `work`; a late call delays the next.

        Returns:
            Nanoseconds of each recorded call, and of the work before each.
        """
        plan, clock = self._plan, time.perf_counter_ns
        took, worked = array("q"), array("q")
        deadline = time.monotonic() + plan.budget
        tick = time.monotonic()
        while len(took) < plan.warmup + plan.calls and time.monotonic() < deadline:
            tick = max(tick + plan.period, time.monotonic())
            time.sleep(max(0.0, tick - time.monotonic()))
            began = clock()
            work()
            worked.append(clock() - began)
            took.append(self._timed())
        return took[plan.warmup :].tolist(), worked[plan.warmup :].tolist()

    def flooded(self) -> list[int]:
        """Call back to back; returns nanoseconds of each recorded call."""
        plan = self._plan
        took = array("q")
        deadline = time.monotonic() + plan.budget
        while len(took) < plan.warmup + plan.calls and time.monotonic() < deadline:
            took.append(self._timed())
        return took[plan.warmup :].tolist()

    def _timed(self) -> int:
        uniform = self._random.random
        scalars = {name: uniform() for name in NAMES}
        step = self.asked
        began = time.perf_counter_ns()
        self._log(scalars, step)
        took = time.perf_counter_ns() - began
        self.asked = step + 1
        return took


def close_within(close: Callable[[], object], seconds: float) -> float | None:
    """Close on this thread; returns the seconds it took, or None if it was given up."""

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.perf_counter()
    try:
        close()
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.perf_counter() - began


def version_of(distribution: str) -> str | None:
    """Return the installed version; None where the code is merely on the path."""
    if not distribution:
        return None
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def measure(adapter: str, distribution: str, folder: Path, plan: Plan) -> Block:
    """Run one block."""
    session = open_session(adapter, folder)
    meter = Meter(session.log, plan)
    paced, worked = meter.paced(make_work())
    flooded = meter.flooded()
    closing = close_within(session.close, plan.close_budget)
    return Block(
        version=version_of(distribution),
        paced=paced,
        flooded=flooded,
        worked=worked,
        asked=meter.asked,
        kept=session.kept(),
        closing=closing,
    )


def main() -> None:
    """Run the block that the command line describes and leave at once."""
    adapter, distribution, folder, plan = sys.argv[1:]
    block = measure(adapter, distribution, Path(folder), Plan.model_validate_json(plan))
    Path(folder, "block.json").write_text(block.model_dump_json(), encoding="utf-8")
    # A peer whose close was given up would wait for its backlog again at interpreter exit.
    os._exit(0)


if __name__ == "__main__":
    main()
