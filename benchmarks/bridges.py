"""A step under other libraries' trainers: with our bridges, and with their own TensorBoard loggers.

Run it as `python benchmarks/bridges.py [--quick]` where transformers, accelerate, lightning and
tensorboard are installed (`.venv-vendors` has them, see `make test-vendors`); it writes
`results/bridges.md`.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import get_args

from _bridges_result import CLOCKS, BridgePlan, BridgeResult, Clock, Library
from _child import measure
from _facts import describe, load
from _numbers import Interval, Ratio
from _report import microseconds, table, verdict, write
from _trainer_result import TINY_BATCH

NAMES: dict[Library, tuple[str, str]] = {
    "transformers": ("TensorBoardCallback", "BusCallback"),
    "lightning": ("TensorBoardLogger", "BusLogger, BusControl"),
    "accelerate": ('log_with="tensorboard"', "BusTracker"),
}
CLOCK_NAMES: dict[Clock, str] = {
    "wall": "a step",
    "thread": "CPU of the training thread",
    "process": "CPU of the process",
}
WARM, STEPS = 100, 500
OPEN = 0.1
"""What A/A may leave open; beyond it a row shows nothing."""

METHOD = """\
Each block is a training of its own, from the same weights: {steps} timed steps of a model of two
small layers, batches of {batch}, on one thread of the CPU, after a warm-up of {warm}. Every step is
logged, to TensorBoard's event files in either case: three numbers and the epoch under Transformers,
the loss and the epoch under Lightning, two numbers under Accelerate, whose loop also passes a safe
point with ours. Clocks are read by the model, from one call to the next, so that no setup and no
closing counts: the wall's, and the CPU time of the thread that trains and of all threads together,
which other programs on the machine disturb less. {blocks} blocks alternate with blocks of the
library's own logger in one process, another for each library.

*ratio* is the median, over the blocks, of their mean step to that of the blocks before and after,
with its 95 % interval; *A/A* that interval for the library's own blocks among themselves; *differs*
the ratio in time.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One library by one clock, summarized."""

    library: Library
    clock: Clock
    base: list[float]
    measured: list[float]
    ratio: Ratio

    @property
    def goal(self) -> str:
        """Whether ours costs no more, beyond what A/A leaves open; that may be too much to say."""
        noise = max(0.0, self.ratio.same[1] - 1)
        if noise > OPEN and self.ratio.interval[1] > 1:
            return "**not shown**"
        return verdict(self.ratio.median <= 1 + noise)

    def cells(self) -> list[str]:
        """Write the row."""
        theirs, ours = NAMES[self.library]
        own = statistics.median(self.base)
        return [
            self.library,
            CLOCK_NAMES[self.clock],
            theirs,
            microseconds(own * 1e6),
            ours,
            microseconds(statistics.median(self.measured) * 1e6),
            f"{self.ratio.median:.3f} ({_span(self.ratio.interval)})",
            _span(self.ratio.same),
            f"{(self.ratio.median - 1) * own * 1e6:+,.0f}",
            self.goal,
        ]


def _span(interval: Interval) -> str:
    return "{:.3f} to {:.3f}".format(*interval)


def measure_case(plan: BridgePlan) -> list[Row]:
    """Measure one library in a fresh process."""
    print(f"measuring: {plan.library}", flush=True)
    result = BridgeResult.model_validate_json(measure("_bridges_case.py", plan.model_dump_json()))
    rows: list[Row] = []
    for clock in CLOCKS:
        base = [each[clock] for each in result.base]
        measured = [each[clock] for each in result.measured]
        rows.append(Row(plan.library, clock, base, measured, Ratio.of(measured, base)))
        print(*rows[-1].cells(), sep="  ", flush=True)
    return rows


def report(rows: Sequence[Row], blocks: int, load_before: float) -> list[str]:
    """Put table, method and machine together."""
    head = ["library", "clock", "its own", "us", "ours", "us", "ratio", "A/A", "differs, us"]
    goals = "Goal: a step costs no more than with the library's own logger, beyond what A/A allows."
    method = METHOD.format(steps=STEPS, warm=WARM, batch=TINY_BATCH, blocks=blocks)
    names = (*get_args(Library), "tensorboard")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    machine = "\n".join([*describe(load_before), f"- {versions}"])
    cells = table([*head, "goal"], [row.cells() for row in rows])
    title = "# A step with our bridges and with the libraries' own loggers"
    return [title, goals, cells, "## Method", method.rstrip(), machine]


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half the blocks; prints, writes not")
    quick = parser.parse_args().quick
    blocks = 3 if quick else 6
    before = load()
    libraries: tuple[Library, ...] = get_args(Library)
    plans = [BridgePlan(library=each, blocks=blocks, warm=WARM, steps=STEPS) for each in libraries]
    rows = [row for plan in plans for row in measure_case(plan)]
    write("bridges", report(rows, blocks, before), quick=quick)


if __name__ == "__main__":
    main()
