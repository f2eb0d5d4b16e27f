"""What logging costs a training step that consists of launches alone.

Run it as `python benchmarks/step_cost.py [--quick]`; it writes `results/step_cost.md`.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from _child import measure
from _facts import describe, load
from _numbers import Interval, Ratio
from _report import microseconds, table, verdict, write
from _step_cost_result import OPERATIONS, Plan, Result

MEAN_GOALS = {100.0: 1.01, 2000.0: 1.05}
SHARE_GOALS = {100.0: 0.01}
CASES: tuple[tuple[float, int, Literal["thread", "process"] | None], ...] = (
    (100.0, 0, None),
    (2000.0, 0, None),
    (100.0, 1, None),
    (2000.0, 1, None),
    (100.0, 0, "thread"),
    (2000.0, 0, "thread"),
    (100.0, 0, "process"),
    (2000.0, 0, "process"),
)

METHOD = """\
A step is {operations} tiny torch operations on one thread ({step:.2f} ms here); each gives the GIL
away, so every Python thread beside it can take it. {blocks} blocks of {seconds:g} s log six fresh
floats whenever a call is due, between blocks that call an empty function instead and have no run.
*step* is the median, over those blocks, of their mean step to the mean of the blocks before and
after, and where that median lies with 95 % confidence; *A/A* is that interval for the blocks
without logging among themselves. A goal counts as missed only beyond what A/A leaves open.
*p99* is the same ratio of the 99th percentiles of the steps.

*core* is the CPU time of our threads (writer and, with a subscriber, loop) per second, as the run's
statistics say; *kernel* the same from the kernel's account of those threads; *CPU/event* the
writer's part by event. The subscriber reads every event and does nothing. *Sinks*: JSON lines,
TensorBoard files and a web hook, all three taking every event, on the loop thread or in processes
of their own (whose time is not in *core*); their run stays open through all blocks.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One case, summarized."""

    plan: Plan
    result: Result
    mean: Ratio
    p99: Ratio

    @property
    def goals(self) -> str:
        """Whether the goals for this row are met; empty if it has none."""
        if self.plan.subscribers or self.plan.deliver:
            return ""
        noise = max(0.0, self.mean.same[1] - 1)
        fast = self.mean.median <= MEAN_GOALS[self.plan.rate] + noise
        share = statistics.median(self.result.share)
        return verdict(fast and share <= SHARE_GOALS.get(self.plan.rate, 1.0))

    def cells(self) -> list[str]:
        """Write the row."""
        result = self.result
        return [
            f"{statistics.median(result.rate):,.0f}",
            str(self.plan.subscribers),
            f"3, {self.plan.deliver}" if self.plan.deliver else "",
            f"{self.mean.median:.3f} ({_span(self.mean.interval)})",
            _span(self.mean.same),
            f"{self.p99.median:.2f}",
            f"{statistics.median(result.share):.2%}",
            f"{statistics.median(result.kernel_share):.2%}",
            microseconds(statistics.median(result.writer) * 1e6),
            self.goals,
        ]


def _span(interval: Interval) -> str:
    return "{:.3f} to {:.3f}".format(*interval)


def measure_case(plan: Plan) -> Row:
    """Measure one case in a fresh process."""
    print(
        f"measuring: {plan.rate:g} events/s, {plan.subscribers} subscribers, "
        f"sinks: {plan.deliver or 'none'}",
        flush=True,
    )
    result = Result.model_validate_json(measure("_step_cost_case.py", plan.model_dump_json()))
    p99 = Ratio.of(result.ours_p99, result.base_p99)
    return Row(plan, result, Ratio.of(result.ours, result.base), p99)


def report(rows: Sequence[Row], load_before: float) -> list[str]:
    """Put table, method and machine together."""
    head = [
        "events/s",
        "subscribers",
        "sinks",
        "step",
        "A/A",
        "p99",
        "core",
        "kernel",
        "CPU/event, us",
    ]
    plan = rows[0].plan
    method = METHOD.format(
        operations=OPERATIONS,
        step=statistics.median(rows[0].result.base) * 1e3,
        blocks=plan.blocks,
        seconds=plan.seconds,
    )
    goals = (
        "Goals: step <= 1.01 at 100 events/s and <= 1.05 at 2,000/s, beyond what A/A leaves open; "
        "at most 1 % of a core at 100/s."
    )
    cells = table([*head, "goal"], [row.cells() for row in rows])
    machine = "\n".join(describe(load_before))
    title = "# What logging costs a launch-bound step"
    return [title, goals, cells, "## Method", method.rstrip(), machine]


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the blocks; prints, writes not"
    )
    quick = parser.parse_args().quick
    blocks, seconds = (24, 0.25) if quick else (96, 0.25)
    before = load()
    rows = [
        measure_case(
            Plan(rate=rate, subscribers=count, blocks=blocks, seconds=seconds, deliver=deliver)
        )
        for rate, count, deliver in CASES
    ]
    write("step_cost", report(rows, before), quick=quick)


if __name__ == "__main__":
    main()
