"""What a trainer adds to a step: ours, Transformers' and Lightning's beside a bare loop.

Run it as `python benchmarks/trainer.py [--quick]` where transformers, accelerate and lightning are
installed (`make bench-trainer`); it writes `results/trainer.md`.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from _child import measure
from _facts import describe, load
from _numbers import Interval, Ratio
from _report import microseconds, table, verdict, write
from _trainer_result import TINY_BATCH, Contender, Plan, Result, Work

NAMES: dict[Contender, str] = {
    "bare": "a bare loop",
    "hotloop": "ours",
    "sinks": "ours with 3 sinks",
    "transformers": "Transformers",
    "lightning": "Lightning",
}
WORKS: dict[Work, str] = {
    "tiny": "launch-bound",
    "gpt": "the demo's GPT",
    "large": "the demo's GPT, 113 M parameters",
}
STEPS: dict[Work, tuple[int, int]] = {"tiny": (300, 1500), "gpt": (5, 40)}
"""Steps before the clock starts and after, in each block."""

GPT_GOAL = 1.02
TINY_GOAL = 30e-6
SINKS_GOAL = 1.01
PEERS: tuple[Contender, ...] = ("transformers", "lightning")

METHOD = """\
Each block is a training of its own, from the same weights, with a `DataLoader` of this process,
fused AdamW with biases in a group of their own, clipping to a norm of 1, a learning rate that
falls linearly, on one thread of the CPU: {tiny} timed steps of a model of two small layers, batches
of {tiny_batch}, or {gpt} of the demo's GPT, after a warm-up. The clock is the model's: the time
from one call to the next, over all of a block's timed steps, so that no trainer's setup, last log
or end counts. {blocks} blocks alternate with a base's blocks in one process, another for each row.

*step* is the median over the blocks; *ratio* the median, over the blocks, of their mean step to
that of the base's blocks before and after, with its 95 % interval; *A/A* that interval for the
base's blocks among themselves; *adds* the ratio in time. A goal counts as missed only beyond what
A/A leaves open. Trainers have their defaults (ours and Transformers' log every 500th step,
Lightning's every 50th) except where each step is logged: the loss, and with ours and Transformers'
the norm of the gradients and the learning rate. The bare loop logs nothing.
Progress bars are on, checkpoints off. Sinks: JSON lines, TensorBoard files, and a web hook on
this machine.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One case, summarized."""

    plan: Plan
    result: Result
    ratio: Ratio

    @property
    def added(self) -> float:
        """Seconds a step takes longer than the base's."""
        return (self.ratio.median - 1) * statistics.median(self.result.base)

    @property
    def goal(self) -> str:
        """Whether the goal for this row is met; empty if it has none."""
        noise = max(0.0, self.ratio.same[1] - 1)
        plan = self.plan
        if plan.contender == "hotloop" and plan.work == "gpt":
            return verdict(self.ratio.median <= GPT_GOAL + noise)
        if plan.contender == "hotloop" and plan.every_step:
            return verdict(self.added <= TINY_GOAL + noise * statistics.median(self.result.base))
        if plan.contender == "sinks" and plan.work == "gpt":
            return verdict(self.ratio.median <= SINKS_GOAL + noise)
        return ""

    def cells(self) -> list[str]:
        """Write the row."""
        return [
            WORKS[self.plan.work],
            "every step" if self.plan.every_step else "by default",
            NAMES[self.plan.contender],
            NAMES[self.plan.base],
            microseconds(statistics.median(self.result.measured) * 1e6),
            f"{self.ratio.median:.3f} ({_span(self.ratio.interval)})",
            _span(self.ratio.same),
            f"{self.added * 1e6:+,.0f}",
            self.goal,
        ]


def _span(interval: Interval) -> str:
    return "{:.3f} to {:.3f}".format(*interval)


def plans(blocks: int) -> Iterator[Plan]:
    """Every trainer beside the bare loop, and ours with sinks beside ours without."""
    for work, (warm, steps) in STEPS.items():
        for every_step in (False, True):
            for contender in ("hotloop", *PEERS, "sinks"):
                yield Plan(
                    work=work,
                    contender=contender,
                    base="hotloop" if contender == "sinks" else "bare",
                    every_step=every_step,
                    blocks=blocks,
                    warm=warm,
                    steps=steps,
                )


def measure_case(plan: Plan) -> Row:
    """Measure one case in a fresh process."""
    logging = "every step" if plan.every_step else "by default"
    print(f"measuring: {plan.work}, logging {logging}, {NAMES[plan.contender]}", flush=True)
    result = Result.model_validate_json(measure("_trainer_case.py", plan.model_dump_json()))
    row = Row(plan, result, Ratio.of(result.measured, result.base))
    print(*row.cells()[4:], sep="  ", flush=True)
    return row


def ahead(rows: Sequence[Row]) -> bool:
    """Whether ours adds less than either peer to each work, however often it logs."""
    added = {(row.plan.work, row.plan.every_step, row.plan.contender): row.added for row in rows}
    return all(
        added[work, every_step, "hotloop"] < added[work, every_step, peer]
        for work, every_step, contender in added
        if contender == "hotloop"
        for peer in PEERS
    )


def report(rows: Sequence[Row], blocks: int, load_before: float) -> list[str]:
    """Put table, method and machine together."""
    head = ["model", "logging", "trainer", "base", "step, us", "ratio", "A/A", "adds, us", "goal"]
    goals = (
        "Goals, beyond what A/A leaves open: ours within 2 % of the bare loop on the GPT and "
        "within 30 us a step on the launch-bound model, logging every step; sinks at most 1 % on "
        "the GPT; "
        f"ahead of both peers everywhere ({verdict(ahead(rows))})."
    )
    method = METHOD.format(
        tiny=STEPS["tiny"][1], tiny_batch=TINY_BATCH, gpt=STEPS["gpt"][1], blocks=blocks
    )
    peers = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("transformers", "accelerate", "lightning")
    )
    machine = "\n".join([*describe(load_before), f"- {peers}"])
    cells = table(head, [row.cells() for row in rows])
    title = "# What a trainer adds to a step"
    return [title, goals, cells, "## Method", method.rstrip(), machine]


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half the blocks; prints, writes not")
    quick = parser.parse_args().quick
    blocks = 4 if quick else 8
    before = load()
    rows = [measure_case(plan) for plan in plans(blocks)]
    write("trainer", report(rows, blocks, before), quick=quick)


if __name__ == "__main__":
    main()
