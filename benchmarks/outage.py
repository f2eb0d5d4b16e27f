"""An hour without a destination at 1,000 events a second, compressed: memory, and the catching up.

    python benchmarks/outage.py [--quick]

Writes benchmarks/results/outage.md.
"""

import argparse

from _child import measure
from _facts import describe, load
from _outage_case import RATE, Result
from _report import table, verdict, write

METHOD = """## Method

{events:,} events of two metrics are published as fast as the journal takes them, which stands for
{minutes:.0f} minutes at 1,000 events a second, while a sink answers that it is down. Resident
memory is that of the whole process after each tenth. Then the sink takes everything, 1,000 records
a batch, checking their order; *drained* counts from its first batch."""


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth; prints, writes not")
    options = parser.parse_args()
    events = 360_000 if options.quick else 3_600_000
    before = load()
    result = Result.model_validate_json(measure("_outage_case.py", str(events)))
    growth = result.resident[-1] - result.resident[0]
    rows = [
        ["resident after the first tenth, MiB", f"{result.resident[0]:.1f}", "", ""],
        ["resident after the last tenth, MiB", f"{result.resident[-1]:.1f}", "", ""],
        ["growth over the last nine tenths, MiB", f"{growth:+.1f}", "flat", verdict(growth < 16)],
        ["peak while it drained, MiB", f"{result.peak:.1f}", "", ""],
        [
            "drained, events/s",
            f"{result.drained:,.0f}",
            f"{10 * RATE:,.0f}",
            verdict(result.drained >= 10 * RATE),
        ],
        ["arrived in order", f"{result.delivered:,} of {events:,}", "all", ""],
    ]
    write(
        "outage",
        [
            "# An hour without a destination",
            table(["", "measured", "goal", ""], rows),
            METHOD.format(events=events, minutes=events / RATE / 60),
            "\n".join(describe(before)),
        ],
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
