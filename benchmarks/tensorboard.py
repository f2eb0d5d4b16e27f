"""How fast the TensorBoard sink writes scalars, beside the writers that people use.

Run it as `python benchmarks/tensorboard.py [--quick]`; it writes `results/tensorboard.md`. Writers
that cannot be imported are left out: torch's needs `tensorboard`, the other one `tensorboardX`.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from _child import measure
from _facts import describe, load
from _report import microseconds, table, verdict, write
from pydantic import BaseModel

SCALARS = 5
NAMES = {
    "ours": "the sink",
    "ours_in_python": "the sink, checksums in Python",
    "from_journal": "the sink, from a journal",
    "torch_writer": "torch's SummaryWriter",
    "torch_flushed": "torch's, flushed each call",
    "tensorboardx": "tensorboardX",
}
BASE = "torch_writer"

METHOD = """\
{calls:,} calls of {scalars} scalars each, on a local disk, until the writer is closed and
everything is in the file. Writers alternate, {rounds} rounds, each time in a process of its own
that has imported them before the clock starts; a rate is the median over the rounds, the range
what they spread over, the ratio the median of each round's. CPU is of the whole process.

*The sink* is handed batches of 1,000 decoded events, as a delivery does, and writes each with one
system call; *from a journal* is all of `hotloop sync`: reading, checking and decoding the journal
and keeping the cursor. The others are called from a loop, once for each scalar.
{checksums}
"""


class Result(BaseModel):
    """What a case says."""

    seconds: float
    cpu: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One writer, summarized."""

    name: str
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    cpu: float
    bytes: float

    def cells(self) -> list[str]:
        """Write the row."""
        ratio = f"{statistics.median(self.ratios):.1f}" if self.ratios else ""
        return [
            NAMES[self.name],
            f"{statistics.median(self.rates):,.0f}",
            f"{min(self.rates):,.0f} to {max(self.rates):,.0f}",
            ratio,
            microseconds(self.cpu),
            f"{self.bytes:.0f}",
        ]


def names() -> list[str]:
    """The writers there are here; a file of this folder is called like a package that counts."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != here]
    left_out = set[str]()
    if find_spec("tensorboard") is None or find_spec("torch") is None:
        left_out |= {"torch_writer", "torch_flushed"}
    if find_spec("tensorboardX") is None:
        left_out.add("tensorboardx")
    if find_spec("google_crc32c") is None and find_spec("crc32c") is None:
        left_out.add("ours")
    return [name for name in NAMES if name not in left_out]


def row_of(name: str, results: dict[str, list[Result]], calls: int) -> Row:
    """Summarize a writer's rounds."""
    scalars, own = calls * SCALARS, results[name]
    base = results.get(BASE, [])
    pairs = zip(own, base, strict=False)
    return Row(
        name,
        tuple(scalars / each.seconds for each in own),
        tuple(other.seconds / each.seconds for each, other in pairs),
        statistics.median(each.cpu for each in own) / scalars * 1e6,
        own[0].bytes / scalars,
    )


def report(rows: Sequence[Row], calls: int, rounds: int, load_before: float) -> list[str]:
    """Put table, method and machine together."""
    head = ["writer", "scalars/s", "range", "x torch", "CPU us/scalar", "bytes/scalar"]
    slowest = next(row for row in rows if row.name == "ours_in_python")
    goal = statistics.median(slowest.ratios) >= 10 if slowest.ratios else None
    wheel = any(row.name == "ours" for row in rows)
    checksums = (
        "A package computes the checksums (google-crc32c or crc32c), but where the row says no."
        if wheel
        else "No package for the checksums is installed here."
    )
    method = METHOD.format(calls=calls, scalars=SCALARS, rounds=rounds, checksums=checksums)
    words = "" if goal is None else f" {verdict(goal)}."
    return [
        "# How fast scalars reach TensorBoard's files",
        f"Goal: without any package 10 x torch's SummaryWriter:{words}",
        table(head, [row.cells() for row in rows]),
        "## Method",
        method.rstrip(),
        "\n".join(describe(load_before)),
    ]


def main() -> None:
    """Measure the writers and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds; prints, writes not")
    quick: bool = parser.parse_args().quick
    rounds, calls = (2, 1000) if quick else (5, 5000)
    before = load()
    results: dict[str, list[Result]] = {name: [] for name in names()}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for name, found in results.items():
            said = measure("_tensorboard_case.py", name, str(calls))
            found.append(Result.model_validate_json(said.splitlines()[-1]))
    rows = [row_of(name, results, calls) for name in results]
    write("tensorboard", report(rows, calls, rounds, before), quick=quick)


if __name__ == "__main__":
    main()
