"""What the watchdog costs a launch-bound step, and a core.

Run it as `python benchmarks/watchdog.py [--quick]`; it writes `results/watchdog.md`.
"""

import argparse
import statistics
import tempfile
import threading
import time

import torch
from _facts import describe, load
from _numbers import Ratio
from _report import table, write

from runtime import Run

METHOD = """\
One process runs {blocks} blocks of {seconds:g} s with the watchdog, as it is by default, between
blocks without it, in one run; a step is 100 tiny torch operations and a safe point. *ratio* is the
median of the ratios of each block's mean step to its neighbours', with its 95 % interval; *A/A*
that interval for the blocks without a watchdog among themselves. The share of a core is the CPU
time of the watchdog's thread. *safe point* is what one costs in a loop of nothing else."""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short blocks, nothing is written")
    quick = parser.parse_args().quick
    before = load()
    torch.set_num_threads(1)
    blocks, seconds = (3, 0.5) if quick else (15, 2.0)
    with tempfile.TemporaryDirectory() as folder, Run("watched", dir=folder, watchdog=10.0) as run:
        rows = measure(run, blocks, seconds)
        point = safe_points(run)
    parts = [
        "# What the watchdog costs",
        "\n".join(describe(before)),
        METHOD.format(blocks=blocks, seconds=seconds),
        table(["a step", "with the watchdog", "ratio", "A/A", "share of a core"], [rows]),
        f"safe point: {point:.0f} ns",
    ]
    write("watchdog", parts, quick=quick)


def measure(run: Run, blocks: int, seconds: float) -> list[str]:
    """The row of the table."""
    run.end_watching()
    block(run, seconds)  # warms up
    without, watched, shares = [block(run, seconds)], [], []
    for _ in range(blocks):
        run.start_watching()
        (thread,) = (each for each in threading.enumerate() if each.name == "hotloop-watchdog")
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        watched.append(block(run, seconds))
        shares.append(time.clock_gettime(clock) / seconds)
        run.end_watching()
        without.append(block(run, seconds))
    ratio = Ratio.of(watched, without)
    return [
        f"{statistics.median(without) * 1e6:.0f} us",
        f"{statistics.median(watched) * 1e6:.0f} us",
        f"{ratio.median:.3f} ({ratio.interval[0]:.3f} to {ratio.interval[1]:.3f})",
        f"{ratio.same[0]:.3f} to {ratio.same[1]:.3f}",
        f"{100 * statistics.mean(shares):.3f} %",
    ]


def block(run: Run, seconds: float) -> float:
    """Take steps for so long; the seconds of one in the mean."""
    operand = torch.ones(8, 8)
    steps, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for _ in range(50):
            operand = (operand @ operand).clamp_(-1, 1)
        steps += 1
        run.safe_point(steps)
    return (time.monotonic() - began) / steps


def safe_points(run: Run) -> float:
    """What one costs, in nanoseconds."""
    costs: list[float] = []
    for _ in range(50):
        began = time.perf_counter_ns()
        for step in range(1000):
            run.safe_point(step)
        middle = time.perf_counter_ns()
        for _step in range(1000):
            pass
        costs.append((2 * middle - began - time.perf_counter_ns()) / 1000)
    return statistics.median(costs)


if __name__ == "__main__":
    main()
