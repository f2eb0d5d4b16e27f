"""What delivering metrics costs, in time, requests and bytes: our sinks and the real clients.

Run it as `make bench-trackers`, or as `python benchmarks/trackers.py [--quick] [--only NAME ...]`
with an interpreter that has hotloop and the clients; it writes `results/trackers.md`.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from _facts import describe, load
from _report import microseconds, table, write
from _trackers_servers import SERVERS

CASE = Path(__file__).with_name("_trackers_case.py")
PACKAGES = {"comet": "comet_ml", "azure_ml": "azureml-mlflow"}
BLOCKS = {
    "none": ("ours", "ours"),
    **dict.fromkeys(("wandb", "comet", "neptune", "clearml"), ("ours", "client", "ours")),
    "dagshub": ("ours", "client", "async", "ours"),
    "azure_ml": ("ours", "client", "ours"),
}
"""Who takes turns in a round; ours twice, so that two blocks of one kind can be compared."""
METRICS = 5
PATIENCE = 60.0
"""Seconds beyond the loop's within which a run must have begun and ended."""
METHOD = """\
{steps} steps with {metrics} metrics each, evenly over {seconds:g} s; {rounds} rounds in which all
take turns, ours before and after each client. Each is a process of its own with torch loaded, on
the CPU, against a server of its own in the measuring process on the same machine: the strict
stand-in of the tests, which takes what the real clients were recorded to send and nothing that
differs; no hosted service took part. The clients are told to capture nothing by themselves.

DagsHub and Azure ML are logged to with MLflow's client ({mlflow}). For DagsHub it is used after
`dagshub.init`, as it comes and with `synchronous=False` (*async*), as Transformers' callback does
if asked; for Azure ML with the workspace's plugin, as in a job and over TLS, which ours speaks
there too. That plugin's *async* is a request of its own, whose answer by a workspace is not known
here.

*log* is what logging holds up a step for, over all rounds; *open* and *close* what the run's begin
and end take, until the server has everything. *Requests* and *kB* (of bodies, as sent) are all of a
run, for 1,000 points. *CPU* is the process's own from before the run's begin to after its end,
without importing the package, and *others* that of processes it started. Ours includes the
journal: the row *none* is a run without a sink. Medians of the rounds; in brackets their range.
*A/A* is how much the second of ours' blocks in a round cost of the first one, in all rounds: a
ratio inside that range says nothing.
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost; times in seconds."""

    requests: int
    bytes: int
    log: list[float]
    open: float
    close: float
    own: float
    others: float


def measure(service: str, who: str, steps: int, seconds: float) -> Cost | None:
    """Let one of them log, in a process and a home of its own; None if that does not end."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        SERVERS[service](Path(folder)) as (server, given),
        subprocess.Popen(  # noqa: S603 - our own words
            # Without -P this folder's names would hide the packages of those names.
            [sys.executable, "-P", str(CASE), service, who, str(steps), str(seconds), folder],
            cwd=folder,
            env={**kept, "HOME": folder, "PYTHONWARNINGS": "ignore", **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            output, errors = process.communicate(timeout=seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            return None
    if process.returncode:
        sys.exit(f"{service}, {who}:\n{output}\n{errors}")
    told = json.loads(next(line for line in output.splitlines() if line.startswith('{"log"')))
    size = sum(int(each.get("content-length", "0")) for each in server.headers)
    return Cost(requests=len(server.requests), bytes=size, **told)


def row(service: str, who: str, costs: list[Cost], points: int) -> list[str]:
    """One contender, per 1,000 points."""
    scale = 1000 / points
    log = sorted(each * 1e6 for cost in costs for each in cost.log)
    columns: list[tuple[str, Callable[[Cost], float]]] = [
        ("{:.2f}", lambda each: each.open),
        ("{:.2f}", lambda each: each.close),
        ("{:,.0f}", lambda each: each.requests * scale),
        ("{:,.1f}", lambda each: each.bytes * scale / 1000),
        ("{:,.0f}", lambda each: each.own * scale * 1000),
        ("{:,.0f}", lambda each: each.others * scale * 1000),
    ]
    return [
        service,
        who,
        f"{microseconds(statistics.median(log))} / {microseconds(log[int(len(log) * 0.99)])}",
        *(median([value(each) for each in costs], form) for form, value in columns),
    ]


def spread(costs: list[Cost]) -> list[str]:
    """What the second of two blocks of one kind costs of the first: log's median, and CPU."""
    found: list[str] = []
    measures: tuple[Callable[[Cost], float], ...] = (
        lambda each: statistics.median(each.log),
        lambda each: each.own,
    )
    for value in measures:
        ratios = [value(b) / value(a) for a, b in zip(costs[::2], costs[1::2], strict=True)]
        found.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
    return found


def median(values: list[float], form: str) -> str:
    """A median with its range."""
    found = (min(values), statistics.median(values), max(values))
    low, middle, high = (form.format(each) for each in found)
    return middle if low == high else f"{middle} ({low} to {high})"


def named(service: str, who: str) -> str:
    """A contender with its version."""
    if who == "ours":
        return who
    package = PACKAGES.get(service, service)
    return f"{package} {metadata.version(package)}{', async' if who == 'async' else ''}"


def take_turns(
    services: Iterable[str], rounds: int, steps: int, seconds: float
) -> tuple[dict[tuple[str, str], list[Cost]], Counter[str]]:
    """What each contender's runs cost, in the order of the rounds; and who hung how often."""
    costs: defaultdict[tuple[str, str], list[Cost]] = defaultdict(list)
    hung: Counter[str] = Counter()
    turns = [(service, who) for service in services for who in BLOCKS[service]]
    for number in range(rounds):
        for service, who in turns:
            print(f"round {number + 1} of {rounds}: {service}, {who}", file=sys.stderr)
            while (cost := measure(service, who, steps, seconds)) is None:
                hung[named(service, who)] += 1
            costs[service, who].append(cost)
    return costs, hung


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; writes no file")
    parser.add_argument("--only", choices=BLOCKS, nargs="+", help="these; writes no file")
    options = parser.parse_args()
    rounds, steps, seconds = (1, 60, 3.0) if options.quick else (3, 200, 10.0)
    before = load()
    costs, hung = take_turns(options.only or BLOCKS, rounds, steps, seconds)
    head = ["service", "who", "log µs, p50 / p99", "open s", "close s", "requests", "kB"]
    head += ["CPU ms", "others' CPU ms"]
    rows = [
        row(service, named(service, who), found, steps * METRICS)
        for (service, who), found in costs.items()
    ]
    same = [[service, *spread(found)] for (service, who), found in costs.items() if who == "ours"]
    method = METHOD.format(
        steps=steps,
        metrics=METRICS,
        seconds=seconds,
        rounds=rounds,
        mlflow=metadata.version("mlflow"),
    )
    parts = ["# What 1,000 metric points cost", table(head, rows)]
    parts += [table(["A/A", "log, p50", "CPU"], same), "## Method", method.rstrip()]
    parts += [
        f"{who} did not end within {PATIENCE:g} s {count} times, and was measured again."
        for who, count in hung.items()
    ]
    parts.append("\n".join(describe(before)))
    write("trackers", parts, quick=options.quick or bool(options.only))


if __name__ == "__main__":
    main()
