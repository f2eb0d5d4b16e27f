"""What logging into Neptune costs the training and the network, with its own client and with ours.

Run it as `HOTLOOP_NEPTUNE_PYTHON=... python benchmarks/neptune.py [--quick]`, the variable naming
an interpreter with the `neptune` package; it writes `results/neptune.md`.
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
from _report import microseconds, table, write

from tests.servers.neptune import StandIn

LOOP = Path(__file__).with_name("_neptune_loop.py")
ROOT = Path(__file__).resolve().parent.parent

METHOD = """\
One loop of {steps:,} steps that sleep {pause:g} ms and log five metrics each, in a process of its
own, {rounds} rounds in turn, into the strict stand-in for Neptune's server on this machine
(tests/servers/neptune.py), which each of the two satisfies. *log* is the time that logging takes of
a step; *loop* is how much longer than its sleeps the loop took; *close* is what the end takes until
the server has everything. *requests* and *bytes* (bodies alone) are all of a run, with its begin
and end, for each 1,000 points of metrics. *CPU* is that of the process and its children, from the
first step to the end. The client is neptune {version} without what it finds out by itself.
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
        done = subprocess.run(  # noqa: S603 - our own words
            # Without -P this folder's neptune.py would be found for the package.
            [python, "-P", str(LOOP), mode, str(steps), str(pause)],
            capture_output=True,
            check=True,
            text=True,
            cwd=folder,
            env={**environment(server, folder), "PYTHONPATH": str(ROOT)},
        )
        stored = sum(len(points) for points in server.run.attributes.series.values())
    told = json.loads(done.stdout.splitlines()[-1])
    told["loop"] -= steps * pause
    return Result(**told, requests=counts[0], bytes=counts[1], stored=stored)


def environment(server: StandIn, folder: str) -> dict[str, str]:
    """Without settings of ours but for the server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NEPTUNE_")}
    return {
        **kept,
        "NEPTUNE_API_TOKEN": server.token,
        "NEPTUNE_DATA_DIRECTORY": folder,
        "OAUTHLIB_INSECURE_TRANSPORT": "1",  # the server speaks no TLS
        "PYTHONWARNINGS": "ignore",
    }


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
    python = os.environ.get("HOTLOOP_NEPTUNE_PYTHON")
    if not python:
        sys.exit("set HOTLOOP_NEPTUNE_PYTHON to an interpreter with the neptune package")
    before = load()
    cases = {"ours": sys.executable, "client": python}
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, each in cases.items():
            results[name].append(measure(each, name, steps, pause))
    command = [python, "-Pc", "from importlib import metadata; print(metadata.version('neptune'))"]
    version = subprocess.check_output(command, text=True).strip()  # noqa: S603 - our own words
    head = ["into Neptune", "log µs", "p99", "max", "loop s", "close s", "CPU s"]
    head += ["requests", "bytes", "stored"]
    rows = [row(name, each, steps * 5) for name, each in results.items()]
    method = METHOD.format(steps=steps, pause=pause * 1000, rounds=rounds, version=version)
    parts = ["# Logging into Neptune", table(head, rows), "## Method", method.rstrip()]
    write("neptune", [*parts, "\n".join(describe(before))], quick=quick)


if __name__ == "__main__":
    main()
