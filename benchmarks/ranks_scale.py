"""What the leases and the watchdog cost and how soon they act with up to 1,024 ranks, simulated.

Run it as `python benchmarks/ranks_scale.py [--quick]`; it writes `results/ranks_scale.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from _facts import describe, load
from _report import table, write
from torch.distributed import TCPStore

PROCESSES: Final = 2
"""That hold the simulated ranks, evenly."""

METHOD = """\
One TCPStore in a process of its own, as torchrun's agent holds it, and {processes} processes that
simulate the ranks. Each simulated rank has its own `bus.Leases` and its own watchdog's `Fleet`, the
very classes of a real rank; 16 connections of a process are shared. What is made up is the training
(a count that goes up {rate:g} times a second) and the threads: one loop serves the ranks of a
process in turn, `Leases.extend` 20 times a second each as the writer thread does, and the watchdog
every 0.5 s. All of it shares this machine's {cores} cores, so that CPU time is what counts here,
and the latencies are those of a machine with {size} pollers on {cores} cores. Round trips and bytes
are counted at the clients, bytes as keys and values without the protocol's headers.

- *calm*: {seconds:g} s in which nothing happens.
- *decision*: one rank asks for a stop; time until the last rank acts on it, all at one safe point.
- *stall*: all ranks stop passing safe points, one of them elsewhere than the others; time from the
  last safe point until rank 0 has reported it with all ranks' stacks, of 4 KB each. The bound is
  {floor:g} s."""


class Held:
    """The store in a process of its own; what it takes of a core is read from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a program of ours
            [sys.executable, str(Path(__file__).with_name("_ranks_scale_case.py")), "store"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def cpu_seconds(self) -> float:
        """CPU time of the store's process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def simulate(size: int, seconds: float, rate: float, floor: float) -> dict[str, float]:
    """Run one job of this many ranks; what was measured, by name."""
    held = Held()
    try:
        here = TCPStore("127.0.0.1", held.port, timeout=timedelta(seconds=600))
        case = str(Path(__file__).with_name("_ranks_scale_case.py"))
        ranks = [
            subprocess.Popen(  # noqa: S603 - likewise
                [
                    *(sys.executable, case, "ranks", str(held.port), str(number), str(PROCESSES)),
                    *(str(size), str(seconds), str(rate), str(floor)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        here.wait([f"calm-begins-{number}" for number in range(PROCESSES)])
        before, began = held.cpu_seconds(), time.monotonic()
        here.wait([f"calm-ends-{number}" for number in range(PROCESSES)])
        cpu, took = held.cpu_seconds() - before, time.monotonic() - began
        parts = [json.loads(each.communicate(timeout=600)[0].splitlines()[-1]) for each in ranks]
    finally:
        held.close()
    found = {name: sum(part[name] for part in parts) for name in ("trips", "bytes", "cpu")}
    worst = {name: max(part[name] for part in parts) for name in ("gap", "reached", "reported")}
    return {**found, **worst, "store_cpu": cpu / took, "took": parts[0]["took"]}


def row(size: int, found: dict[str, float]) -> list[str]:
    """A row of the table."""
    took = found["took"]
    return [
        f"{size:,}",
        f"{found['trips'] / took:,.0f}",
        f"{found['trips'] / took / size:.2f}",
        f"{found['bytes'] / took / 1000:,.0f}",
        f"{found['store_cpu']:.3f}",
        f"{found['cpu'] / took / size * 1000:.2f}",
        f"{found['gap'] * 1000:.0f}",
        f"{found['reached']:.2f}",
        f"{found['reported']:.2f}",
    ]


HEADINGS: Final = [
    "ranks",
    "round trips/s",
    "per rank",
    "kB/s",
    "store's CPU, cores",
    "a rank's CPU, ms/s",
    "turn every, ms",
    "decision, s",
    "stall, s",
]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few ranks, nothing is written")
    quick = parser.parse_args().quick
    before = load()
    sizes = (2, 16) if quick else (16, 128, 1024)
    seconds, rate, floor = (5.0 if quick else 8.0), 5.0, 10.0
    rows = [row(size, simulate(size, seconds, rate, floor)) for size in sizes]
    cores = os.cpu_count() or 1
    text = METHOD.format(
        processes=PROCESSES, rate=rate, cores=cores, size=sizes[-1], seconds=seconds, floor=floor
    )
    parts = [
        "# Leases and watchdog at scale",
        "\n".join(describe(before)),
        text,
        table(HEADINGS, rows),
    ]
    write("ranks_scale", parts, quick=quick)


if __name__ == "__main__":
    main()
