"""What delivering metrics costs, in time, requests and bytes: our sinks and the real clients.

Run it as `make bench-trackers`, or as `python benchmarks/trackers.py [--quick] [--only NAME]` with
an interpreter that has hotloop and the clients; it writes `results/trackers.md`.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from _facts import describe, load
from _report import microseconds, table, write

from tests.servers import clearml, comet, neptune, wandb
from tests.servers._tracker import TrackerServer
from tests.vendors.clearml_server import token

CASE = Path(__file__).with_name("_trackers_case.py")
SERVICES = ("wandb", "comet", "neptune", "clearml")
PACKAGES = {"comet": "comet_ml"}
METRICS = 5
PATIENCE = 60.0
"""Seconds beyond the loop's within which a run must have begun and ended."""
METHOD = """\
{steps} steps with {metrics} metrics each, evenly over {seconds:g} s, {rounds} rounds in which all
take turns; each is a process of its own with torch loaded, against a server of its own on this
machine: the strict stand-in of the tests, which takes what the real clients were recorded to send
and nothing that differs. The clients are told to capture nothing by themselves.

*log* is what logging holds up a step for, over all rounds; *open* and *close* what the run's begin
and end take, until the server has everything. *Requests* and *kB* (of bodies, as sent) are all of a
run, for 1,000 points. *CPU* is the process's own from before the run's begin to after its end,
without importing the package, and *others* that of processes it started. Ours includes the
journal: the row *none* is a run without a sink. Medians of the rounds; in brackets their range.
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


def server_of(service: str) -> tuple[TrackerServer, dict[str, str]]:
    """A server, and the environment in which a client finds it; what it knows is put in later.

    For no service it is a server that nobody is told of.
    """
    if service == "none":
        return wandb.StandIn(), {}
    if service == "wandb":
        return wandb.StandIn(), {"WANDB_BASE_URL": "{0.url}", "WANDB_API_KEY": wandb.KEY}
    if service == "comet":
        address = {"COMET_URL_OVERRIDE": "{0.url}/clientlib/"}
        return comet.StandIn(), {"COMET_API_KEY": comet.KEY, **address}
    if service == "neptune":
        # It speaks no TLS, which Neptune's client would ask for.
        given = {"NEPTUNE_PROJECT": "team/demo", "OAUTHLIB_INSECURE_TRANSPORT": "1"}
        return neptune.StandIn(), {"NEPTUNE_API_TOKEN": "{0.token}", **given}
    task_server = clearml.StandIn()
    task_server.token = token()  # its client reads it
    keys = {"CLEARML_API_ACCESS_KEY": "FAKE", "CLEARML_API_SECRET_KEY": "FAKE"}
    hosts = {f"CLEARML_{host}_HOST": "{0.url}" for host in ("API", "WEB", "FILES")}
    return task_server, keys | hosts


def measure(service: str, who: str, steps: int, seconds: float) -> Cost | None:
    """Let one of them log, in a process and a home of its own; None if that does not end."""
    server, variables = server_of(service)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    with server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        given = {name: value.format(server) for name, value in variables.items()}
        with subprocess.Popen(  # noqa: S603 - our own words
            # Without -P this folder's names would hide the packages of those names.
            [sys.executable, "-P", str(CASE), service, who, str(steps), str(seconds), folder],
            cwd=folder,
            env={**kept, "HOME": folder, "PYTHONWARNINGS": "ignore", **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
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


def median(values: list[float], form: str) -> str:
    """A median with its range."""
    found = (min(values), statistics.median(values), max(values))
    low, middle, high = (form.format(each) for each in found)
    return middle if low == high else f"{middle} ({low} to {high})"


def named(who: str) -> str:
    """A contender with its version."""
    return who if who == "ours" else f"{who} {metadata.version(who)}"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; writes no file")
    parser.add_argument("--only", choices=SERVICES, help="one service; writes no file")
    options = parser.parse_args()
    rounds, steps, seconds = (1, 60, 3.0) if options.quick else (3, 200, 10.0)
    before = load()
    services = [options.only] if options.only else SERVICES
    pairs = [(name, who) for name in services for who in ("ours", PACKAGES.get(name, name))]
    costs: dict[tuple[str, str], list[Cost]] = {each: [] for each in [("none", "ours"), *pairs]}
    hung: Counter[str] = Counter()
    for number in range(rounds):
        for (service, who), found in costs.items():
            print(f"round {number + 1} of {rounds}: {service}, {who}", file=sys.stderr)
            while (cost := measure(service, who, steps, seconds)) is None:
                hung[named(who)] += 1
            found.append(cost)
    head = ["service", "who", "log µs, p50 / p99", "open s", "close s", "requests", "kB"]
    head += ["CPU ms", "others' CPU ms"]
    rows = [
        row(service, named(who), found, steps * METRICS) for (service, who), found in costs.items()
    ]
    method = METHOD.format(steps=steps, metrics=METRICS, seconds=seconds, rounds=rounds)
    parts = ["# What 1,000 metric points cost", table(head, rows), "## Method", method.rstrip()]
    parts += [
        f"{who} did not end within {PATIENCE:g} s {count} times, and was measured again."
        for who, count in hung.items()
    ]
    parts.append("\n".join(describe(before)))
    write("trackers", parts, quick=options.quick or bool(options.only))


if __name__ == "__main__":
    main()
