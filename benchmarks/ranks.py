"""What it costs a step that all ranks act alike, and how soon they do.

Run it as `python benchmarks/ranks.py [--quick]`; it writes `results/ranks.md`.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from _facts import describe, load
from _numbers import Percentiles, Ratio
from _report import microseconds, table, verdict, write

from tests.runtime.ranks.launching import launch
from tests.runtime.ranks.trials import run_trials

GOAL = 2.0
"""Microseconds that agreeing may cost a step, in the median."""

METHOD = """\
Two ranks on this machine run {blocks} blocks of {seconds:g} s each, whose safe points they agree on
by step leases, between blocks that ask a bus that knows no other ranks; a step is 20 tiny torch
operations. Timed is the single call, with the clock itself. *more* is the difference of the
medians; *ratio* the median of the ratios of each block's median to its neighbours', with its 95 %
interval; *A/A* that interval for the blocks without other ranks among themselves."""

LATENCY = """\
From asking for a stop, on any rank and at any moment, to the last rank's last step, in randomised
trials (tests/runtime/ranks/trials.py) of ranks with steps of up to 15 ms."""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short blocks, nothing is written")
    quick = parser.parse_args().quick
    before = load()
    blocks, seconds = (3, 0.5) if quick else (15, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        cost = costs(Path(folder), blocks, seconds)
    rows = [latency(size, 5 if quick else 40) for size in (2, 4)]
    parts = [
        "# Many ranks, one decision",
        "\n".join(describe(before)),
        METHOD.format(blocks=blocks, seconds=seconds),
        cost,
        LATENCY,
        table(["ranks", "trials", "requests", "stops", "slowest stop", "failures"], rows),
    ]
    write("ranks", parts, quick=quick)


def costs(folder: Path, blocks: int, seconds: float) -> str:
    """The table of what a safe point costs."""
    case = str(Path(__file__).with_name("_ranks_case.py"))
    ended = launch(case, folder, blocks, seconds, size=2, timeout=60 + 6 * blocks * seconds)
    if any(each.code for each in ended):
        raise RuntimeError(f"a rank failed: {ended}")
    found = json.loads(ended[0].out.splitlines()[-1])
    medians = {name: [statistics.median(block) for block in found[name]] for name in found}
    ratio = Ratio.of(medians["agreed"], medians["alone"])
    both = {name: Percentiles.of([each for b in found[name] for each in b]) for name in found}
    more = both["agreed"].p50 - both["alone"].p50
    rows = [
        [name, f"{each.count:,}", *map(microseconds, (each.p50, each.p99, each.p999, each.max))]
        for name, each in both.items()
    ]
    lines = [
        table(["safe points", "calls", "p50 us", "p99 us", "p99.9 us", "max us"], rows),
        "",
        (
            f"more: {more:.2f} us (goal at most {GOAL:g}: {verdict(more <= GOAL)}); "
            f"ratio {ratio.median:.3f} ({ratio.interval[0]:.3f} to {ratio.interval[1]:.3f}), "
            f"A/A {ratio.same[0]:.3f} to {ratio.same[1]:.3f}"
        ),
    ]
    return "\n".join(lines)


def latency(size: int, count: int) -> list[str]:
    """A row of how soon ranks stop."""
    with tempfile.TemporaryDirectory() as folder:
        trials = run_trials(Path(folder), size=size, count=count, seed=size, timeout=30 * count)
    return [
        str(size),
        str(trials.count),
        str(trials.asked.total()),
        str(trials.stopped),
        f"{trials.slowest:.2f} s",
        str(len(trials.failures)),
    ]


if __name__ == "__main__":
    main()
