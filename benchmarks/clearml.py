"""What logging into ClearML costs the training and the network, with its own client and with ours.

Run it as `HOTLOOP_CLEARML_PYTHON=... python benchmarks/clearml.py [--quick]`, the variable naming
an interpreter with the `clearml` package; it writes `results/clearml.md`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _facts import describe, load
from _report import microseconds, table, write

from tests.servers.clearml import StandIn
from tests.vendors.clearml_server import Client, find_python

LOOP = Path(__file__).with_name("_clearml_loop.py")
ROOT = Path(__file__).resolve().parent.parent

METHOD = """\
One loop of {steps:,} steps that sleep {pause:g} ms and log five metrics each, in a process of its
own, {rounds} rounds in turn, into the strict stand-in for ClearML's servers on this machine
(tests/servers/clearml.py), which each of the two satisfies. *log* is the time that logging takes of
a step; *loop* is how much longer than its sleeps the loop took; *close* is what the end takes until
the server has everything. *requests* and *bytes* (bodies alone) are all of a run, with its begin
and end, for each 1,000 points of metrics. *CPU* is that of the process and its children, from the
first step to the end. The client is clearml {version} without automatic logging.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one case."""

    log: list[float]
    loop: float
    close: float
    cpu: float
    requests: int
    bytes: int
    stored: int


def measure(python: str, mode: str, steps: int, pause: float) -> Result:
    """Run the loop against a server of its own."""
    counts = [0, 0]
    with tempfile.TemporaryDirectory() as folder, StandIn() as server:
        answer = server.answer

        def counted(method: str, target: str, headers: dict[str, str], content: bytes) -> object:
            counts[0] += 1
            counts[1] += len(content)
            return answer(method, target, headers, content)

        server.answer = counted
        environment = Client(python, server, Path(folder)).environment
        done = subprocess.run(  # noqa: S603 - our own words
            # Without -P this folder's clearml.py would be found for the package.
            [python, "-P", str(LOOP), mode, str(steps), str(pause)],
            capture_output=True,
            check=True,
            text=True,
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        (task,) = server.tasks.values()
        stored = sum(len(points) for (title, _), points in task.scalars.items() if title == "train")
    told = json.loads(done.stdout.splitlines()[-1])
    told["loop"] -= steps * pause
    return Result(**told, requests=counts[0], bytes=counts[1], stored=stored)


def row(name: str, results: list[Result], points: int) -> list[str]:
    """Summarize the rounds of a case."""
    log = sorted(each for result in results for each in result.log)
    thousands = len(results) * points / 1000
    return [
        name,
        microseconds(statistics.median(log)),
        microseconds(log[int(len(log) * 0.99)]),
        microseconds(log[-1]),
        f"{statistics.median(each.loop for each in results):.2f}",
        f"{statistics.median(each.close for each in results):.2f}",
        f"{statistics.median(each.cpu for each in results):.2f}",
        f"{sum(each.requests for each in results) / thousands:.1f}",
        f"{sum(each.bytes for each in results) / thousands:,.0f}",
        f"{sum(each.stored for each in results):,} of {len(results) * points:,}",
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; writes no file")
    quick = parser.parse_args().quick
    steps, rounds, pause = (200, 1, 0.01) if quick else (1000, 3, 0.02)
    python = find_python()
    if not python:
        sys.exit("set HOTLOOP_CLEARML_PYTHON to an interpreter with the clearml package")
    before = load()
    cases = {"ours": sys.executable, "client": python}
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, each in cases.items():
            results[name].append(measure(each, name, steps, pause))
    command = [python, "-Pc", "import clearml; print(clearml.__version__)"]
    version = subprocess.check_output(command, text=True).strip()  # noqa: S603 - our own words
    head = ["into ClearML", "log µs", "p99", "max", "loop s", "close s", "CPU s"]
    head += ["requests", "bytes", "stored"]
    rows = [row(name, each, steps * 5) for name, each in results.items()]
    method = METHOD.format(steps=steps, pause=pause * 1000, rounds=rounds, version=version)
    parts = ["# Logging into ClearML", table(head, rows), "## Method", method.rstrip()]
    write("clearml", [*parts, "\n".join(describe(before))], quick=quick)


if __name__ == "__main__":
    main()
