"""What it costs a training step that somebody watches.

Run it as `python benchmarks/console.py [--quick]`; it writes `results/console.md`.
"""

import argparse
import statistics
from collections.abc import Sequence
from typing import get_args

from _child import measure
from _console_result import Shown, ShownPlan, ShownResult
from _facts import describe, load
from _numbers import Interval, Ratio
from _report import table, write
from _step_cost_result import OPERATIONS

METHOD = """\
A step is {operations} tiny torch operations on one thread ({step:.2f} ms here); each gives the GIL
away, so every Python thread beside it can take it. The loop logs six numbers {rate:g} times a
second to an open run. {blocks} blocks of {seconds:g} s are shown on a terminal that another process
reads, between blocks that nobody watches. *step* is the median, over those blocks, of their mean
step to the mean of the blocks before and after, and where that median lies with 95 % confidence;
*A/A* is that interval for the blocks that nobody watches among themselves. *own CPU* is the same
ratio of the training thread's CPU time in a step, which a busy machine disturbs less than the
clock, *p99* of the 99th percentiles of the steps. *others* is the CPU time a second of all threads
but the training's, and how much of it is there when nobody watches.

*panel*, *lines* and *tqdm* are `run.console(...)`, each step published to it as a trainer does.
*tqdm in the loop* calls `update` at each step and `set_postfix(refresh=False)` at each log, *rich
in the loop* calls `advance` at each step.
"""


def cells(plan: ShownPlan, result: ShownResult) -> list[str]:
    """One row of the table."""
    mean = Ratio.of(result.shown, result.base)
    p99 = Ratio.of(result.shown_p99, result.base_p99)
    cpu = Ratio.of(result.shown_cpu, result.base_cpu)
    return [
        plan.shown,
        f"{mean.median:.3f} ({_span(mean.interval)})",
        _span(mean.same),
        f"{cpu.median:.3f} ({_span(cpu.interval)})",
        _span(cpu.same),
        f"{p99.median:.2f} ({_span(p99.interval)})",
        _span(p99.same),
        f"{statistics.median(result.share):.2%}, {statistics.median(result.base_share):.2%}",
    ]


def _span(interval: Interval) -> str:
    return "{:.3f} to {:.3f}".format(*interval)


def report(
    plans: Sequence[ShownPlan], results: Sequence[ShownResult], load_before: float
) -> list[str]:
    """Put table, method and machine together."""
    head = ["shown by", "step", "A/A", "own CPU", "A/A", "p99", "A/A", "others"]
    rows = [cells(plan, result) for plan, result in zip(plans, results, strict=True)]
    plan = plans[0]
    method = METHOD.format(
        operations=OPERATIONS,
        step=statistics.median(results[0].base) * 1e3,
        rate=plan.rate,
        blocks=plan.blocks,
        seconds=plan.seconds,
    )
    title = "# What it costs a launch-bound step to be watched"
    machine = "\n".join(describe(load_before))
    return [title, table(head, rows), "## Method", method.rstrip(), machine]


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the blocks; prints, writes not"
    )
    quick = parser.parse_args().quick
    before = load()
    plans = [
        ShownPlan(rate=100, subscribers=0, blocks=8 if quick else 24, seconds=1.0, shown=shown)
        for shown in get_args(Shown)
    ]
    results: list[ShownResult] = []
    for plan in plans:
        print(f"measuring: {plan.shown}", flush=True)
        said = measure("_console_case.py", plan.model_dump_json())
        results.append(ShownResult.model_validate_json(said))
    write("console", report(plans, results, before), quick=quick)


if __name__ == "__main__":
    main()
