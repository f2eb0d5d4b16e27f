"""What it costs to bring metrics to Comet, for us and for Comet's own client.

Run it as `HOTLOOP_COMET_PYTHON=... python benchmarks/comet.py [--quick]`, the variable naming an
interpreter with comet_ml; it writes `results/comet.md`.
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

from tests.servers.comet import KEY, StandIn

CASE = Path(__file__).with_name("_comet_case.py")
ROOT = Path(__file__).resolve().parent.parent

METHOD = """\
Each case is a process that logs five metrics {calls:,} times, {interval:g} s apart, and ends its
run; {rounds} rounds in turn, medians. The server is the stand-in of the tests, in a process of its
own. *requests* and *bytes* (bodies as sent, and headers) are all that arrived but pings, for 1,000
points; *CPU* is the user and system time of the whole process from the first call to the last
answer, for 1,000 points. *arrived* is what the stand-in holds. Their client collects nothing of its
own accord (code, machine, console); it adds two parameters and a metric.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One process.

    Attributes:
        requests: What arrived at the server.
        sent: Bytes of it.
        cpu: Seconds of a core.
        arrived: Points that the server holds.
    """

    requests: int
    sent: int
    cpu: float
    arrived: int


class CountingStandIn(StandIn):
    """Counts what arrives."""

    count = 0
    size = 0

    def answer(
        self, method: str, target: str, headers: dict[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes, bool]:
        """As the stand-in does."""
        if not target.endswith("/health/ping"):
            self.count += 1
            self.size += len(content) + sum(len(k) + len(v) + 4 for k, v in headers.items())
        return super().answer(method, target, headers, content)


def run_case(kind: str, python: str, calls: int, interval: float) -> Result:
    """Let a process log."""
    with CountingStandIn() as server, tempfile.TemporaryDirectory() as home:
        variables = {
            "COMET_API_KEY": KEY,
            "COMET_URL_OVERRIDE": f"{server.url}/clientlib/",
            "COMET_PROJECT_NAME": "bench",
            "HOME": home,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(  # noqa: S603 - our own words
            # Without -P names of packages would find benchmarks.
            [python, "-P", str(CASE), kind, str(calls), str(interval)],
            capture_output=True,
            check=True,
            cwd=home,
            env={**os.environ, **variables},
            text=True,
        )
        told = json.loads(done.stdout.rpartition("ANSWER ")[2])
        names = {"loss", "grad_norm", "learning_rate", "accuracy", "perplexity"}
        arrived = sum(point[0] in names for point in server.experiment.points)
        return Result(server.count, server.size, told["cpu"], arrived)


def row(name: str, results: list[Result], points: int) -> list[str]:
    """Summarize the rounds of a case."""

    def median(values: list[float]) -> float:
        return statistics.median(values) * 1000 / points

    return [
        name,
        f"{median([each.requests for each in results]):.1f}",
        f"{median([each.sent for each in results]):,.0f}",
        f"{median([each.cpu * 1000 for each in results]):,.0f}",
        f"{min(each.arrived for each in results):,} of {points:,}",
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; writes no file")
    quick = parser.parse_args().quick
    python = os.environ.get("HOTLOOP_COMET_PYTHON")
    if not python:
        sys.exit("set HOTLOOP_COMET_PYTHON to an interpreter with the comet_ml package")
    rounds, calls, interval = (1, 300, 0.01) if quick else (3, 2000, 0.01)
    before, results = load(), {"ours": [], "client": []}
    for _ in range(rounds):
        for name, interpreter in (("ours", sys.executable), ("client", python)):
            results[name].append(run_case(name, interpreter, calls, interval))
    head = ["to Comet", "requests", "bytes", "CPU, ms", "arrived"]
    rows = [row(name, each, calls * 5) for name, each in results.items()]
    method = METHOD.format(rounds=rounds, calls=calls, interval=interval)
    machine = "\n".join(describe(before))
    title = "# Metrics to Comet, for 1,000 points"
    write("comet", [title, table(head, rows), "## Method", method.rstrip(), machine], quick=quick)


if __name__ == "__main__":
    main()
