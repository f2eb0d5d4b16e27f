"""What a training process does on disks that fail; a script, for a mount namespace of its own.

    unshare --mount python disk_child.py SCENARIO EMPTY_FOLDER

Prints one JSON object for the test that started it.
"""

import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus import BusOptions, Gap, MetricsLogged, TextLogged, encode, run_state
from bus._journal import Journal
from bus._reader import JournalReader
from runtime import Run

Result = dict[str, object]

OPTIONS: Final = BusOptions(flush_interval=0.005, buffer_bytes=64 << 10)
UNLIMITED: Final = resource.RLIM_INFINITY


def mount(folder: Path, options: str) -> None:
    """Give the folder a file system of its own, in memory."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 - fixed but for the folder


def remount(folder: Path, mode: str) -> None:
    """Make it read-only or writable."""
    command = ["mount", "-o", f"remount,{mode}", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 - fixed but for the folder


def log_until(run: Run, step: int, reached: Callable[[], bool]) -> int:
    """Log one metric a step until something is reached; return the next step."""
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        for _ in range(200):
            run.log({"loss": float(step), "pad": 0.123456789}, step=step)
            step += 1
        run.flush(1)
    return step


def account(run_dir: Path, published: int) -> Result:
    """What can be read afterwards."""
    reader = JournalReader(run_dir)
    records = list(reader.records(superseded=True))
    metrics = [r.event.step for r in records if isinstance(r.event, MetricsLogged)]
    gaps = [r.event for r in records if isinstance(r.event, Gap)]
    newest = [r.seq for r in records if r.attempt == records[-1].attempt]
    return {
        "published": published,
        "read": len(metrics),
        "ascending": metrics == sorted(set(metrics)),  # type: ignore[type-var]  # all have a step
        "last_step": metrics[-1],
        "gaps": [(gap.reason, gap.count) for gap in gaps],
        "unbroken": newest == list(range(1, len(newest) + 1)),
        "damage": reader.damage,
        "first": records[0].event.type,
        "last": records[-1].event.type,
        "state": run_state(run_dir),
        "visible": [r.event.step for r in reader.records(types=(MetricsLogged,))],
    }


def full(folder: Path) -> Result:
    """The disk fills up, stays full while much is logged, and gets space again."""
    mount(folder, "size=256k")
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(128 << 10))
    run = Run("full", dir=folder, options=OPTIONS)
    step = log_until(run, 0, lambda: run.statistics().disk_error is not None)
    step = log_until(run, step, lambda: run.statistics().dropped_count > 2000)
    pending, error = run.statistics().pending, run.statistics().disk_error
    ballast.unlink()
    assert run.flush()
    run.log({"loss": 0.0}, step=step)
    dropped = run.statistics().dropped_count
    recovered = run.statistics().disk_error
    closed = run.close()
    return {
        **account(run.dir, step + 1),
        "pending": pending,
        "error": error,
        "recovered": recovered is None,
        "dropped": dropped,
        "written": closed is not None and closed.written,
    }


def never_writable(folder: Path) -> Result:
    """The disk stays full to the end: closing is bounded and says what is missing."""
    mount(folder, "size=64k")
    run = Run("full", dir=folder, options=OPTIONS)
    step = log_until(run, 0, lambda: run.statistics().dropped_count > 500)
    started = time.monotonic()
    closed = run.close(timeout=2)
    assert closed is not None
    return {
        "published": step,
        "seconds": time.monotonic() - started,
        "written": closed.written,
        "unwritten": closed.unwritten,
        "readable": len(list(JournalReader(run.dir).records())),
    }


def read_only(folder: Path) -> Result:
    """The disk cannot be written when the run begins, and can later."""
    mount(folder, "size=4m")
    remount(folder, "ro")
    run = Run("late", dir=folder, options=OPTIONS)
    step = log_until(run, 0, lambda: run.statistics().dropped_count > 500)
    there = run.dir.exists()
    remount(folder, "rw")
    assert run.flush()
    run.log({"loss": 0.0}, step=step)
    dropped = run.statistics().dropped_count
    run.close()
    return {**account(run.dir, step + 1), "dropped": dropped, "there": there}


def resumed_read_only(folder: Path) -> Result:
    """A run is resumed on a disk that cannot be written yet: run.json does not know of it."""
    mount(folder, "size=4m")
    with Run("twice", dir=folder, options=OPTIONS) as first:
        for step in range(10):
            first.log({"loss": float(step)}, step=step)
    remount(folder, "ro")
    run = Run("twice", dir=folder, resume="auto", from_step=4, options=OPTIONS)
    step = log_until(run, 5, lambda: run.statistics().dropped_count > 500)
    remount(folder, "rw")
    run.close()
    return {**account(run.dir, step - 5), "attempt": run.attempt}


def size_limit(folder: Path) -> Result:
    """The process may not write files beyond 10,000 bytes (RLIMIT_FSIZE: short writes, EFBIG)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, UNLIMITED))
    run = Run("limited", dir=folder, options=OPTIONS)
    for step in range(1000):
        run.log({"loss": float(step)}, step=step)
        if step % 100 == 0:
            run.flush()
    while not run.flush():
        pass
    run.close()
    return {**account(run.dir, 1000), "segments": len(list((run.dir / "journal").iterdir()))}


def short_writes(folder: Path) -> Result:
    """A write stops after any byte; losses are told before it is repeated in another file."""
    bad = []
    for cut in range(1, 420):
        run_dir = folder / str(cut)
        journal = Journal(run_dir / "journal", rank=0, attempt=1)
        for step in range(4):
            event = MetricsLogged(metrics={"loss": 1.0}, step=step, time=1.5)
            journal.append(encode(event), event.time)
        resource.setrlimit(resource.RLIMIT_FSIZE, (cut, UNLIMITED))
        written = journal.flush(force=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
        journal.record_gap(Gap(reason="test", count=7))
        journal.record_gap(Gap(reason="test", count=2))
        journal.flush(force=True)
        journal.close()
        reader = JournalReader(run_dir)
        records = list(reader.records())
        steps = [r.event.step for r in records if isinstance(r.event, MetricsLogged)]
        gaps = [r.event.count for r in records if isinstance(r.event, Gap)]
        seqs = [r.seq for r in records]
        if (steps, gaps, seqs) != ([0, 1, 2, 3], [9], [1, 2, 3, 4, 5]) or reader.damage > 1:
            bad.append((cut, written, steps, gaps, seqs, reader.damage))
    return {"bad": bad}


def torn_in_place(folder: Path) -> Result:
    """A disk gets full after any byte of a line; the same file goes on when space returns."""
    mount(folder, "size=64k,nr_inodes=1k")
    page, bad, newline_only = os.sysconf("SC_PAGE_SIZE"), [], 0
    for length in range(150):
        run_dir = folder / str(length)
        (run_dir / "journal").mkdir(parents=True)
        journal = Journal(run_dir / "journal", rank=0, attempt=1)
        first = TextLogged(key="k", text="x" * (page - 400 + length), time=1.0)
        journal.append(encode(first), first.time)
        assert journal.flush()
        space = os.statvfs(folder)
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize))
        for step in range(5):
            event = MetricsLogged(metrics={"loss": 1.0}, step=step, time=1.5)
            journal.append(encode(event), event.time)
        assert not journal.flush(force=True)
        file = run_dir / "journal" / "rank0-a1-000001.jsonl"
        newline_only += file.read_bytes().endswith(b"}")
        journal.record_gap(Gap(reason="test", count=7))
        ballast.unlink()
        assert journal.flush(force=True)
        journal.close()
        reader = JournalReader(run_dir)
        records = list(reader.records())
        steps = [r.event.step for r in records if isinstance(r.event, MetricsLogged)]
        gaps = [r.event.count for r in records if isinstance(r.event, Gap)]
        files = len(list((run_dir / "journal").iterdir()))
        if (steps, gaps, files) != ([0, 1, 2, 3, 4], [7], 1) or reader.damage > 1:
            bad.append((length, steps, gaps, files, reader.damage))
        file.unlink()
    return {"bad": bad, "newline_only": newline_only}


SCENARIOS: Final = {
    each.__name__: each
    for each in (
        full,
        never_writable,
        read_only,
        resumed_read_only,
        size_limit,
        short_writes,
        torn_in_place,
    )
}


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    print(json.dumps(SCENARIOS[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201 - the answer
