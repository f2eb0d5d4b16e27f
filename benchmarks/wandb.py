"""What reporting to W&B costs, with its own client and with ours: requests, bytes, CPU time.

Run it as `HOTLOOP_WANDB_PYTHON=... python benchmarks/wandb.py [--quick]`, the variable naming an
interpreter with the `wandb` package; it writes `results/wandb.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _facts import describe, load
from _report import table, write
from _wandb_case import NAMES, PAUSE

from tests.servers.wandb import KEY, StandIn

CASE = Path(__file__).with_name("_wandb_case.py")
ROOT = CASE.parents[1]

METHOD = """\
The strict stand-in of the tests answers at once, on this machine. {calls:,} calls of five
numbers, {pause:g} s apart, {rounds} rounds in turn, each in a process of its own with the defaults
of either; console and numbers about the machine are off. *requests* and *bytes* are those of bodies
sent to the server, from the run's beginning to its end, for 1,000 numbers. *CPU* is what the
training's process takes from before the run begins to after it has ended, imports apart; *beside
it* what the processes take that are started for it, imports included. *stored* is what the server
has.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one case."""

    requests: int
    sent: int
    own: float
    children: float
    stored: int


def measure(python: str, who: str, calls: int) -> Result:
    """Log to a server of its own."""
    with StandIn() as server, tempfile.TemporaryDirectory() as folder:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        own = {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "HOME": folder,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(  # noqa: S603 - our own words
            # Without -P the package's name would find this benchmark.
            [python, "-P", str(CASE), who, str(calls), folder],
            capture_output=True,
            check=True,
            text=True,
            cwd=folder,
            env={**kept, **own},
        )
        told = json.loads(next(each for each in done.stdout.splitlines() if each[:1] == "{"))
        sizes = [int(each.get("content-length", 0)) for each in server.headers]
        stored = sum(len(server.run.series(name)) for name in NAMES)
    return Result(len(sizes), sum(sizes), told["own"], told["children"], stored)


def row(name: str, results: list[Result], calls: int) -> list[str]:
    """Summarize the rounds of a case, for 1,000 numbers where that makes sense."""
    share = 1000 / (calls * len(NAMES))

    def middle(values: list[float]) -> float:
        return statistics.median(values)

    return [
        name,
        f"{middle([each.requests * share for each in results]):.1f}",
        f"{middle([each.sent * share for each in results]):,.0f}",
        f"{middle([each.own * share * 1000 for each in results]):.0f} ms",
        f"{middle([each.children * share * 1000 for each in results]):.0f} ms",
        f"{sum(each.stored for each in results):,} of {calls * len(NAMES) * len(results):,}",
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; writes no file")
    quick = parser.parse_args().quick
    calls, rounds = (300, 1) if quick else (3000, 3)
    python = os.environ.get("HOTLOOP_WANDB_PYTHON")
    if not python:
        sys.exit("set HOTLOOP_WANDB_PYTHON to an interpreter with the wandb package")
    before = load()
    pythons = {"client": python, "ours": sys.executable}
    results: dict[str, list[Result]] = {who: [] for who in pythons}
    for _ in range(rounds):
        for who, interpreter in pythons.items():
            results[who].append(measure(interpreter, who, calls))
    head = ["1,000 numbers to W&B", "requests", "bytes", "CPU", "beside it", "stored in all"]
    rows = [row(who, each, calls) for who, each in results.items()]
    method = METHOD.format(calls=calls, pause=PAUSE, rounds=rounds).rstrip()
    machine = "\n".join(describe(before))
    title = "# What reporting to W&B costs"
    write("wandb", [title, table(head, rows), "## Method", method, machine], quick=quick)


if __name__ == "__main__":
    main()
