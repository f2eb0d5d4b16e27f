"""The driver: alternates blocks of all peers, each in its own process, and writes the results."""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers._machine import busy_share, describe
from benchmarks.peers._records import PEERS, Block, Failure, Outcome, Peer, Plan
from benchmarks.peers._report import Report, build, percentiles, render

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Beyond the two modes and the close: importing the peer, creating its database, counting.
_OVERHEAD = 90.0

# A block begins when less of the machine than this is in use, or when patience ends.
_IDLE = 0.1

_OFFLINE = {
    "COMET_DISABLE_ANNOUNCEMENT": "1",
    "COMET_ERROR_TRACKING_ENABLE": "false",
    "COMET_INTERNAL_REPORTING": "false",
    "COMET_INTERNAL_SENTRY_DSN": "",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "NEPTUNE_MODE": "offline",
    "OTEL_SDK_DISABLED": "false",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}


def blocks_of(round_: int, peers: Sequence[Peer]) -> list[Peer]:
    """Return the order of one round: every peer as often as it repeats, shuffled."""
    blocks = [peer for peer in peers for _ in range(peer.repeats)]
    random.Random(round_).shuffle(blocks)  # noqa: S311 -- the same order in every run
    return blocks


def run_block(peer: Peer, folder: Path, plan: Plan) -> Block | Failure:
    """Measure one peer in a process group of its own, which is gone when this returns."""
    folder.mkdir()
    arguments = (peer.adapter, peer.distribution or "", str(folder), plan.model_dump_json())
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- our own module, fixed arguments
            (sys.executable, "-P", "-m", "benchmarks.peers._measure", *arguments),
            cwd=folder,
            env=_environment(folder.parent),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timed_out = _wait(process, 2 * plan.budget + plan.close_budget + _OVERHEAD)
    result = folder / "block.json"
    if result.exists():
        return Block.model_validate_json(result.read_bytes())
    return Failure("timed out" if timed_out else _last_words(log, folder, process.returncode))


def _environment(root: Path) -> dict[str, str]:
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    private = {"HOME": str(root), "TMPDIR": str(root)}
    path = os.pathsep.join(filter(None, paths))
    return {**os.environ, **_OFFLINE, **private, "PYTHONPATH": path}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait, then end whatever is left of the process group; returns whether it timed out."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    else:
        return False
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _last_words(log: Path, folder: Path, status: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    text = last.replace(str(folder), "FOLDER").replace(str(ROOT), "ROOT").replace("|", "/")
    return f"exit status {status}: {text[:200]}"


def run_round(round_: int, peers: Sequence[Peer], plan: Plan, root: Path) -> Iterator[Outcome]:
    """Yield the blocks of one round as they are measured."""
    for index, peer in enumerate(blocks_of(round_, peers)):
        before = wait_for_idle(plan.patience)
        os.sync()  # the dirty pages of one peer are not the next one's wait
        block = run_block(peer, root / f"{round_}-{index}", plan)
        yield Outcome(peer, round_, max(before, busy_share()), block)


def wait_for_idle(patience: float) -> float:
    """Wait, for a limited time, until others leave the machine alone; returns their last share."""
    deadline = time.monotonic() + patience
    while (share := busy_share()) > _IDLE and time.monotonic() < deadline:
        continue
    return share


def summary(outcome: Outcome) -> str:
    """Describe one block in a line."""
    head = f"round {outcome.round + 1}  {outcome.peer.name:36}"
    if isinstance(outcome.block, Failure):
        return f"{head} {outcome.block.reason}"
    paced, flooded = percentiles(outcome.block.paced), percentiles(outcome.block.flooded)
    return (
        f"{head} paced {paced.p50:8.1f} {paced.p99:9.1f} us   "
        f"flooded {flooded.p50:8.1f} {flooded.p99:9.1f} us (p50, p99)"
    )


def compare(rounds: int, peers: Sequence[Peer], plan: Plan) -> Report:
    """Measure every peer in every round and print each block as it ends."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as name:
        for round_ in range(rounds):
            for outcome in run_round(round_, peers, plan, Path(name)):
                print(summary(outcome), flush=True)
                outcomes.append(outcome)
        disturbed = sum(outcome.busy > _IDLE for outcome in outcomes)
        machine = describe(Path(name), disturbed=disturbed, blocks=len(outcomes))
    assert len(outcomes) == rounds * sum(peer.repeats for peer in peers)
    return build(machine, plan, rounds, outcomes)


def write(report: Report) -> None:
    """Write `results.md` and `results.json` next to this file."""
    (HERE / "results.md").write_text(render(report), encoding="utf-8")
    (HERE / "results.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line, compare, print, and write the result of a whole comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=Plan().calls, help="per mode and block")
    parser.add_argument("--only", default="", help="rows whose name contains this; writes no file")
    parser.add_argument("--patience", type=float, default=Plan().patience, help="seconds")
    options = parser.parse_args()
    peers = [peer for peer in PEERS if options.only in peer.name]
    report = compare(options.rounds, peers, Plan(calls=options.calls, patience=options.patience))
    if not options.only:
        write(report)
    print(f"\n{render(report)}")


if __name__ == "__main__":
    main()
