"""How fast metrics reach a real MLflow server, from us and from MLflow's own client.

Run it as `HOTLOOP_MLFLOW_PYTHON=... python benchmarks/mlflow.py [--quick]`, the variable naming an
interpreter with the `mlflow` package; it writes `results/mlflow.md`.
"""

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from _facts import describe, load
from _report import table, write

from bus import MetricsLogged, list_cursors, sync_run
from sinks.mlflow import MlflowSink
from tests.servers.journals import QUICK, write_attempt
from tests.vendors.mlflow_server import RealServer, environment

CLIENT = Path(__file__).with_name("_mlflow_client.py")
NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "epoch")

METHOD = """\
A real `mlflow server` {version} with its default workers on SQLite, without those that run
jobs, on this machine, after a warm-up; each case is a run of its own, five metrics a call or
event, {rounds} rounds in turn.
*ours*: a journal of {ours:,} events is delivered by `sync_run` with its defaults, one request in
flight; the time is that of everything, from finding the experiment to closing the run. *client*:
`mlflow.log_metrics` {synchronous:,} times, or {asynchronous:,} times with `synchronous=False` and a
flush; the time is that of logging and flushing alone. *buffered* is the latter with
MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS=1. *stored* is what the database holds afterwards, of what
was sent.
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is logged."""

    rounds: int
    ours: int
    synchronous: int
    asynchronous: int


FULL = Sizes(rounds=2, ours=10_000, synchronous=100, asynchronous=500)
QUICK_SIZES = Sizes(rounds=1, ours=2000, synchronous=40, asynchronous=200)


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one case."""

    seconds: float
    sent: int
    stored: int


class Bench:
    """The server and the ways into it."""

    def __init__(self, python: str, folder: Path, sizes: Sizes) -> None:
        self.server = RealServer(python, folder)
        self._python = python
        self._folder = folder
        self._sizes = sizes
        self._count = 0

    def warm_up(self) -> None:
        """Let each of the server's workers import what it needs."""
        self._client("synchronous", 20)
        self.server.settle()

    def ours(self) -> Result:
        """Deliver a journal."""
        self._count += 1
        events = [
            MetricsLogged(step=n, metrics={name: n + index / 8 for index, name in enumerate(NAMES)})
            for n in range(self._sizes.ours)
        ]
        run_dir = write_attempt(self._folder / f"ours-{self._count}", events)
        started = time.perf_counter()
        (account,) = sync_run(run_dir, [MlflowSink(tracking_uri=self.server.url)], pace=QUICK)
        seconds = time.perf_counter() - started
        assert account.complete, account
        run_id = str(list_cursors(run_dir)["mlflow"].state["run_id"])
        return Result(seconds, len(events) * len(NAMES), self._stored(run_id))

    def synchronous(self) -> Result:
        """Log and wait for each call."""
        return self._client("synchronous", self._sizes.synchronous)

    def asynchronous(self) -> Result:
        """Log through the client's queue."""
        return self._client("asynchronous", self._sizes.asynchronous)

    def buffered(self) -> Result:
        """Log through the client's queue, which puts calls of a second together."""
        return self._client(
            "asynchronous",
            self._sizes.asynchronous,
            MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS="1",
        )

    def version(self) -> str:
        """What the server is."""
        command = [self._python, "-Pc", "import mlflow; print(mlflow.__version__)"]
        return subprocess.check_output(command, text=True, env=environment()).strip()  # noqa: S603 - our own words

    def _client(self, mode: str, calls: int, **variables: str) -> Result:
        done = subprocess.run(  # noqa: S603 - our own words
            # Without -P the package's name would find this benchmark.
            [self._python, "-P", str(CLIENT), self.server.url, mode, str(calls)],
            capture_output=True,
            check=True,
            text=True,
            env={**environment(), **variables},
        )
        line = next(each for each in done.stdout.splitlines() if each.startswith("{"))
        told = json.loads(line)
        stored = self._stored(told["run_id"]) - len(NAMES)
        return Result(told["seconds"], calls * len(NAMES), stored)

    def _stored(self, run_id: str) -> int:
        with closing(sqlite3.connect(self._folder / "mlflow.db")) as database:
            query = "select count(*) from metrics where run_uuid = ?"
            return int(database.execute(query, (run_id,)).fetchone()[0])


def row(name: str, results: list[Result], ours: float) -> list[str]:
    """Summarize the rounds of a case."""
    rates = sorted(each.sent / each.seconds for each in results)
    median = statistics.median(rates)
    stored, sent = sum(each.stored for each in results), sum(each.sent for each in results)
    return [
        name,
        f"{median:,.0f}",
        f"{rates[0]:,.0f} to {rates[-1]:,.0f}",
        f"{ours / median:.1f}",
        f"{stored:,} of {sent:,}",
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; writes no file")
    quick = parser.parse_args().quick
    sizes = QUICK_SIZES if quick else FULL
    python = os.environ.get("HOTLOOP_MLFLOW_PYTHON")
    if not python:
        sys.exit("set HOTLOOP_MLFLOW_PYTHON to an interpreter with the mlflow package")
    # So that a server is not left behind by whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(python, Path(folder), sizes)
        bench.server.start()
        try:
            bench.server.wait()
            bench.warm_up()
            results, version = measure(bench, sizes.rounds), bench.version()
        finally:
            bench.server.kill()
    ours = statistics.median(each.sent / each.seconds for each in results["ours"])
    head = ["into MLflow", "metrics/s", "range", "ours is x", "stored"]
    method = METHOD.format(
        version=version,
        rounds=sizes.rounds,
        ours=sizes.ours,
        synchronous=sizes.synchronous,
        asynchronous=sizes.asynchronous,
    )
    rows = [row(name, each, ours) for name, each in results.items()]
    machine = "\n".join(describe(before))
    title = "# Metrics into an MLflow server"
    write("mlflow", [title, table(head, rows), "## Method", method.rstrip(), machine], quick=quick)


def measure(bench: Bench, rounds: int) -> dict[str, list[Result]]:
    """Let the cases take turns."""
    cases: dict[str, Callable[[], Result]] = {
        "ours": bench.ours,
        "client, synchronous": bench.synchronous,
        "client, asynchronous": bench.asynchronous,
        "client, asynchronous, buffered": bench.buffered,
    }
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            results[name].append(case())
    return results


if __name__ == "__main__":
    main()
