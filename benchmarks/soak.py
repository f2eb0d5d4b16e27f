"""`make soak`: the long counts behind the promises, written down with commit, seeds and failures.

    python benchmarks/soak.py [--kills 200] [--delivery-kills 100] [--mlflow-kills 20]
                              [--training-kills 100] [--tracker-kills 50] [--preemptions 200]
                              [--rank-preemptions 60] [--rank-trials 1000] [--rank-signals 50]
                              [--factor 20] [--seed N]

Kills trainers at random moments in both durability modes, and trainers and delivery processes in
the middle of delivering to a file, and to a real MLflow server if HOTLOOP_MLFLOW_PYTHON names an
interpreter with it, and to the stand-in of each tracker; kills and preempts trainings, of one
process and of several ranks, that are resumed each time; has ranks ask each other for stops and
saves at random moments, and signals them one by one; repeats early stopping, and runs the property
tests with many more examples. The log is benchmarks/results/soak.md.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bus.journal.sigkill import run_sigkill_trials
from tests.runtime.ranks.trials import run_trials
from tests.runtime.trainer.preemption_trials import run_preemptions
from tests.runtime.trainer.rank_signals import run_signals
from tests.runtime.trainer.training_kills import run_kill_trials as run_training_kills
from tests.sinks.kill_trials import Trials, Victim, run_kill_trials
from tests.sinks.tracker_kills import TRACKERS, run_tracker_kills
from tests.vendors.mlflow_kills import destination
from tests.vendors.mlflow_server import RealServer
from tests.vendors.programs import find_python

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "benchmarks" / "results" / "soak.md"
SMALL = "TestKubeflow or TestPushgateway or TestTrackio"
VICTIMS: tuple[Victim, ...] = ("trainer", "delivery")


def main() -> int:
    """Run everything, write the log, and return 1 if anything failed."""
    options = parse()
    # So that a server is not left behind by whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    rows = [
        kills(options.kills, options.seed, "interval"),
        kills(options.kills, options.seed + 1, "write"),
        delivery_kills(options.delivery_kills, options.seed + 2, VICTIMS[0]),
        delivery_kills(options.delivery_kills, options.seed + 3, VICTIMS[1]),
        *mlflow_kills(options.mlflow_kills, options.seed + 4),
        training_kills(options.training_kills, options.seed + 6),
        preemptions(options.preemptions, options.seed + 9, 1),
        preemptions(options.rank_preemptions, options.seed + 10, 2),
        preemptions(options.rank_preemptions // 3, options.seed + 11, 4),
        *tracker_kills(options.tracker_kills, options.seed + 7),
        *rank_trials(options.rank_trials, options.seed + 20),
        rank_signals(options.rank_signals, options.seed + 30),
        tests("early stopping, 50 seeded runs", "tests/bus/live", "fifty_seeded", 1),
    ]
    if options.factor:
        rows += [
            tests("journal: properties, disks, bit flips", "tests/bus/journal", "", options.factor),
            tests("live half: properties, isolation", "tests/bus/live", "", options.factor),
            tests("delivery: properties", "tests/bus/delivery", "properties", options.factor),
            tests("the whole kit for small sinks", "tests/sinks", SMALL, options.factor),
        ]
    failures = [failure for _, _, found in rows for failure in found]
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(render(rows, options.seed, time.monotonic() - started), encoding="utf-8")
    print(LOG.read_text(encoding="utf-8"))
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs in each durability mode")
    parser.add_argument(
        "--delivery-kills", type=int, default=100, help="SIGKILLs of trainers, and of deliverers"
    )
    parser.add_argument(
        "--mlflow-kills", type=int, default=20, help="the same two against one real MLflow server"
    )
    parser.add_argument(
        "--training-kills", type=int, default=100, help="SIGKILLs of trainings that are resumed"
    )
    parser.add_argument(
        "--preemptions", type=int, default=200, help="signals to trainings that are resumed"
    )
    parser.add_argument(
        "--rank-preemptions", type=int, default=60, help="of two ranks; a third of it of four"
    )
    parser.add_argument(
        "--tracker-kills", type=int, default=50, help="for each tracker, half of either process"
    )
    parser.add_argument(
        "--rank-trials", type=int, default=1000, help="of 2, 3 and 4 ranks that act alike"
    )
    parser.add_argument(
        "--rank-signals", type=int, default=50, help="SIGTERMs to trainings of two ranks"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument(
        "--factor", type=int, default=20, help="how many times the tests' usual counts; 0 for none"
    )
    return parser.parse_args()


Row = tuple[str, str, list[str]]


def kills(count: int, seed: int, durability: str) -> Row:
    """Kill trainers at random moments; see tests/bus/journal/sigkill.py."""
    failures = [str(each) for each in run_sigkill_trials(count, seed, durability)]
    return f'SIGKILL, durability="{durability}"', f"{count} trials, seed {seed}", failures


def delivery_kills(count: int, seed: int, victim: Victim) -> Row:
    """Kill who trains, or who delivers, in the middle of it; see tests/sinks/kill_trials.py."""
    trials = run_kill_trials(count, seed, victim)
    return f"SIGKILL of the {victim} while delivering", counted(trials, seed), trials.failures


def mlflow_kills(count: int, seed: int) -> list[Row]:
    """The same with resumes, against one MLflow server that lives through all of it."""
    what = "SIGKILL of the {} while delivering to a real MLflow server, resumed"
    python = find_python("MLFLOW", "mlflow")
    if not count or python is None:
        why = "not run: HOTLOOP_MLFLOW_PYTHON names no interpreter with mlflow"
        return [(what.format("trainer or the delivery"), why if count else "none asked for", [])]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        server = RealServer(python, Path(folder))
        server.start()
        try:
            server.wait()
            for offset, victim in enumerate(VICTIMS):
                trials = run_kill_trials(count, seed + offset, victim, destination(server))
                rows.append((what.format(victim), counted(trials, seed + offset), trials.failures))
        finally:
            server.kill()
    return rows


def tracker_kills(count: int, seed: int) -> list[Row]:
    """The same for each tracker, against its stand-in; see tests/sinks/tracker_kills.py."""
    rows: list[Row] = []
    for name in TRACKERS:
        for offset, victim in enumerate(VICTIMS):
            trials = run_tracker_kills(name, -(-count // 2), seed + offset, victim)
            what = f"SIGKILL of the {victim} while delivering to {name}, resumed"
            rows.append((what, counted(trials, seed + offset), trials.failures))
    return rows


def rank_trials(count: int, seed: int) -> list[Row]:
    """Have ranks ask each other for things; see tests/runtime/ranks/trials.py."""
    rows: list[Row] = []
    for size in (2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            share = -(-count // 3)
            trials = run_trials(
                Path(folder), size=size, count=share, seed=seed + size, timeout=60 + 20 * share
            )
        what = f"{size} ranks act at the same step, whoever asks and when"
        rows.append((what, f"{trials}, seed {seed + size}", trials.failures))
    return rows


def rank_signals(count: int, seed: int) -> Row:
    """Tell ranks of trainings to leave; see tests/runtime/trainer/rank_signals.py."""
    with tempfile.TemporaryDirectory() as folder:
        slowest, failures = run_signals(Path(folder), size=2, count=count, seed=seed)
    what = "SIGTERM to one of two ranks, or to both with a skew of up to 0.5 s"
    return what, f"{count} trials, all gone after {slowest:.2f} s at most, seed {seed}", failures


def counted(trials: Trials, seed: int) -> str:
    """How many kills there were."""
    return f"{trials.kills} kills, {trials.mid_batch} with a batch under way, seed {seed}"


def training_kills(count: int, seed: int) -> Row:
    """Kill trainings and resume them; see tests/runtime/trainer/training_kills.py."""
    failures = run_training_kills(count, seed)
    return "SIGKILL of a training, resumed to the end", f"{count} kills, seed {seed}", failures


def preemptions(count: int, seed: int, size: int) -> Row:
    """Preempt trainings and resume them; see tests/runtime/trainer/preemption_trials.py."""
    slowest, failures = run_preemptions(count, seed, size) if count else (0.0, [])
    processes = "one process" if size == 1 else f"{size} ranks"
    what = f"preemptions of a training of {processes}, resumed to the end"
    return what, f"{count}, gone after {slowest:.1f} s at most, seed {seed}", failures


def tests(what: str, folder: str, keyword: str, factor: int) -> Row:
    """Run tests with the long counts."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
    if keyword:
        command += ["-k", keyword]
    environment = {**os.environ, "HOTLOOP_SOAK": str(factor)}
    done = subprocess.run(  # noqa: S603 - a fixed command
        [*command, "--timeout", "1200"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:
        failed = [f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"]
    return what, f"{summary} (counts x {factor})", failed


def render(rows: list[Row], seed: int, seconds: float) -> str:
    """Write the log as Markdown."""
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    lines = [
        "# Soak",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, "
            f"seed {seed}, {seconds / 60:.1f} minutes, Python {sys.version.split()[0]}."
        ),
        "",
        "| what | count | failures |",
        "|---|---|--:|",
    ]
    lines += [f"| {what} | {count} | {len(found)} |" for what, count, found in rows]
    for what, _, found in rows:
        lines += [f"- {what}: {failure}" for failure in found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
