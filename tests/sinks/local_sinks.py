"""Runs on disk for the sinks that write files, and processes that deliver them and die."""

import csv
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

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


def answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What a child says when it is done."""
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


@functools.cache
def mount_namespace() -> tuple[str, ...]:
    """The command that gives a child mounts of its own, or a skip with the reason."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no `unshare` here to make a mount namespace with")
    said = ""
    for way in ((unshare, "--mount"), (unshare, "--mount", "--user", "--map-root-user")):
        done = subprocess.run(  # noqa: S603 - fixed
            [*way, "sh", "-c", "mount -t tmpfs tmpfs /mnt && umount /mnt"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return way
        said = done.stderr.strip()
    pytest.skip(f"no mount namespace may be made here: {said}")


def tensorboard_python() -> str:
    """An interpreter that has TensorBoard, or a skip with the reason."""
    named = os.environ.get("HOTLOOP_TENSORBOARD_PYTHON")
    if named is None and importlib.util.find_spec("tensorboard") is None:
        pytest.skip(
            "tensorboard is not installed; HOTLOOP_TENSORBOARD_PYTHON may name a Python with it"
        )
    return named or sys.executable


def read_tensorboard(folder: Path) -> dict[str, Any]:
    """What TensorBoard's own reader finds in a folder of event files."""
    script = Path(__file__).with_name("read_tensorboard.py")
    done = subprocess.run(  # noqa: S603 - our own script
        [tensorboard_python(), str(script), str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table, each of which has a cell for every column."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = list(csv.reader(file)) or [[]]
    assert all(len(row) == len(names) for row in rows)
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_jsonl(*paths: Path) -> list[dict[str, Any]]:
    """The lines of files, none of which is torn."""
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)]
    assert all(line.endswith("\n") for line in lines)
    return [json.loads(line) for line in lines]


def steps_in(folder: Path) -> dict[str, list[int]]:
    """The steps of the metric `n` that each sink's file in a folder holds, in order."""
    found: dict[str, list[int]] = {}
    if (folder / "metrics.csv").exists():
        rows = read_csv(folder / "metrics.csv")
        found["csv"] = [int(row["step"]) for row in rows if row.get("n")]
    if (folder / "events.jsonl").exists():
        events = [line["event"] for line in read_jsonl(folder / "events.jsonl")]
        found["jsonl"] = [e["step"] for e in events if e["type"] == "metrics_logged"]
    if (folder / "tensorboard").exists():
        scalars = read_tensorboard(folder / "tensorboard")["scalars"]
        found["tensorboard"] = [step for step, _, _ in scalars.get("n", [])]
    return found
