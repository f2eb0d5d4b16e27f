"""Runs on disk for the sinks that write files, and processes that deliver them and die."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bus import AttemptInfo, Event, MetricsLogged, RunEnded, RunInfo, RunStarted, encode
from bus._journal import Journal

ROOT = Path(__file__).resolve().parents[2]
NOON = 1_790_000_000.0


def metrics(steps: Iterable[int], **more: float) -> list[Event]:
    """One event a step, whose metric `n` is the step, made a second apart."""
    return [MetricsLogged(time=NOON + n, step=n, metrics={"n": float(n), **more}) for n in steps]


def write_run(
    parent: Path,
    events: Iterable[Event],
    *,
    attempt: int = 1,
    rank: int = 0,
    from_step: int | None = None,
    config: dict[str, object] | None = None,
    outcome: str | None = "finished",
) -> Path:
    """Write an attempt's journal of a rank to the run in `parent`, and return the run's folder."""
    run_dir = parent / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    new = not (run_dir / "run.json").exists()
    info = RunInfo.new("run", "tests") if new else RunInfo.load(run_dir)
    if info.attempt(attempt) is None:
        info.attempts.append(AttemptInfo.here(attempt, from_step))
        info.save(run_dir)
    journal = Journal(run_dir / "journal", rank=rank, attempt=attempt)
    started = RunStarted(
        time=NOON,
        name="run",
        run_id=info.id,
        attempt=attempt,
        resumed_from_step=from_step,
        config=config or {},
    )
    ended = [] if outcome is None else [RunEnded(time=NOON + 9_000_000, outcome=outcome)]
    for event in [started, *events, *ended]:
        journal.append(encode(event), event.time, keep=event.lifecycle)
    assert journal.flush()
    journal.close()
    return run_dir


def start_child(
    script: str, *arguments: object, before: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start one of the scripts beside the tests."""
    return subprocess.Popen(  # noqa: S603 - our own script
        [*before, sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def answer(child: subprocess.Popen[str]) -> dict[str, object]:
    """What a child says when it is done."""
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    found: dict[str, object] = json.loads(out)
    return found


def eventually(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Wait until something is true, and fail if it is not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.002)
