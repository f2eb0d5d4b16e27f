"""What `run.log` costs the thread that calls it, in good and in bad company.

Run it as `python benchmarks/publish.py [--quick] [CASE ...]`; it writes `results/publish.md`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from _child import can_mount, measure
from _facts import describe, load
from _numbers import Percentiles, Ratio
from _publish_result import MANY, Plan, Result
from _report import microseconds, table, verdict, write

FULL = Plan(rounds=16, paced=1000, flooded=20_000, blocks=50)
QUICK = Plan(rounds=4, paced=200, flooded=5_000, blocks=20)

DISK = "256k"
TENSORS = "6 CPU tensors"
CASES = (
    "no subscriber",
    "1 idle subscriber",
    "4 idle subscribers",
    "16 idle subscribers",
    "one sleeps 5 ms of 15",
    "one computes 5 ms of 15",
    "one raises at every event",
    "full queue",
    "full disk",
    "an integer among the floats",
    TENSORS,
    'durability="write"',
)
FLAT = CASES[:4]

METHOD = """\
Each call logs six fresh host floats and a step; the call alone is timed with `perf_counter_ns`
on the thread that makes it. The clock and an empty call take {flooded_clock:.0f} ns of every
flooded number and {paced_clock:.0f} ns of every paced one, where they are cold too.

*Paced*: {rate:,.0f} calls a second (2,000 asked), each right after torch work on one thread that
ends with a pass over 4 MiB, so that caches hold the work and not the logger. *Flooded*: back to
back, {flooded:,} calls a block; the writer catches up between blocks (but for the full queue), and
garbage is collected there; within a block it is when Python sees fit.

*bare* is `deque.append(MetricsLogged(step=..., metrics=...))`, *plain* the same with a pydantic
model of the same fields and none of our checks. Their blocks alternate with ours in the same
process; a ratio is the median over {rounds} blocks of our p50 to the mean p50 of the bare blocks
before and after it. *A/A* is where the same median lies (95 %) for the bare blocks among
themselves: a ratio in there says nothing. Percentiles are over all calls of a case; each case is
a process of its own.

*Idle* subscribers read every event and do nothing. *Sleeps* and *computes* hold the loop thread
5 ms of every 15, without and with the GIL. *Full queue*: 64 events, and the writer looks once a
minute, so each call drops one. *Full disk*: {disk}.
*durability="write"*: the calling thread writes to the file itself; no goal is set for it.
*CPU/event*: of the writer thread, which encodes, checksums and writes.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One case in one mode, summarized."""

    case: str
    mode: str
    calls: Percentiles
    bare: Ratio
    plain: Ratio
    writer: float
    dropped: float

    @property
    def goals(self) -> str:
        """Whether the goals for this row are met; empty if it has none."""
        if self.case == CASES[-1]:
            return ""
        if self.case == TENSORS:
            return verdict(self.calls.p50 <= 40)
        fast = self.calls.p50 <= 3 and self.calls.p99 <= 20
        return verdict(fast and self.bare.median <= 2)

    def cells(self) -> list[str]:
        """Write the row."""
        calls = self.calls
        times = [microseconds(each) for each in (calls.p50, calls.p99, calls.p999, calls.max)]
        low, high = self.bare.same
        ratios = [f"{self.bare.median:.2f}", f"{low:.2f} to {high:.2f}", f"{self.plain.median:.2f}"]
        writer = microseconds(self.writer * 1e6)
        dropped = f"{self.dropped:.0%}" if self.dropped else ""
        return [self.case, *times, *ratios, writer, dropped, self.goals]


def rows_of(case: str, result: Result) -> list[Row]:
    """Summarize a case, a row for each mode."""
    rows: list[Row] = []
    for mode, calls in result.calls.items():
        medians = result.medians[mode]
        bare = Ratio.of(medians["ours"], medians["bare"])
        # The plain blocks stand behind ours; the first is compared with the one after it too.
        plain = Ratio.of(medians["ours"], [medians["plain"][0], *medians["plain"]])
        share = result.dropped / result.published
        rows.append(Row(case, mode, Percentiles.of(calls), bare, plain, result.writer[mode], share))
    return rows


def render(mode: str, rows: Sequence[Row]) -> str:
    """Make the table of one mode."""
    head = [f"{mode}, us", "p50", "p99", "p99.9", "max", "x bare", "A/A", "x plain"]
    return table(
        [*head, "CPU/event", "dropped", "goal"], [row.cells() for row in rows if row.mode == mode]
    )


def flatness(rows: Sequence[Row], many: Result) -> str:
    """Say how the cost depends on the number of subscribers and of events so far."""
    by_case = [
        [f"{row.case}, {row.mode}", microseconds(row.calls.p50), microseconds(row.calls.p99)]
        for row in rows
        if row.case in FLAT
    ]
    thousands = many.published // 1000
    by_age = [
        [
            f"{which} tenth of {thousands:,}k events, flooded",
            microseconds(calls.p50),
            microseconds(calls.p99),
        ]
        for which, calls in ((key, Percentiles.of(value)) for key, value in many.calls.items())
    ]
    return table(["flat, us", "p50", "p99"], [*by_case, *by_age])


def measure_case(case: str, plan: Plan) -> Result:
    """Measure one case in a fresh process."""
    print(f"measuring: {case}", flush=True)
    disk = None
    if case == "full disk":
        disk, case = (DISK, case) if can_mount() else (None, "file size limit")
    return Result.model_validate_json(
        measure("_publish_case.py", case, plan.model_dump_json(), disk=disk)
    )


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds a case; prints, writes not")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these; prints, writes not")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    before = load()
    results = {case: measure_case(case, plan) for case in arguments.cases or CASES}
    rows = [row for case, result in results.items() for row in rows_of(case, result)]
    tables = [render(mode, rows) for mode in ("paced", "flooded")]
    if arguments.cases:
        print("\n\n".join(tables))
        return
    many = measure_case(MANY, plan)
    write(
        "publish",
        report(results, [*tables, flatness(rows, many)], plan, before),
        quick=arguments.quick,
    )


def report(
    results: dict[str, Result], tables: Sequence[str], plan: Plan, load_before: float
) -> list[str]:
    """Put tables, method and machine together."""
    first, full = results[CASES[0]], results["full disk"]
    disk = f"a tmpfs of {DISK} in a mount namespace" if can_mount() else "a limit on file sizes"
    method = METHOD.format(
        flooded_clock=first.clock["flooded"],
        paced_clock=first.clock["paced"],
        rate=first.rate,
        flooded=plan.flooded,
        rounds=plan.rounds,
        disk=f"{disk}; the journal said {full.disk or 'nothing'}",
    )
    goals = (
        "Goals: p50 <= 3 us and <= 2 x bare, p99 <= 20 us; six CPU tensors p50 <= 40 us; writer "
        "<= 8 us of CPU per event."
    )
    machine = "\n".join(describe(load_before))
    return ["# What `run.log` costs", goals, *tables, "## Method", method.rstrip(), machine]


if __name__ == "__main__":
    main()
