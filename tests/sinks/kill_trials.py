"""Kills trainers and delivery processes at random moments, mid-batch, and counts what arrived.

A trial is one run of several attempts. Each attempt publishes as fast as it is allowed to while a
`JsonlSink`, which promises each event once, is delivered to; the trainer (or the process that
delivers for it) is killed with SIGKILL after a random time, and the next attempt goes on. At the
end `sync_run` delivers the rest, and the file must hold what the journal holds: every event, once.

As a script it is such a trainer: `python kill_trials.py RUN_DIR ATTEMPT thread|process`.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import orjson

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Backoff,
    Bus,
    BusOptions,
    JournalReader,
    MetricsLogged,
    Pace,
    RunEnded,
    RunInfo,
    RunStarted,
    list_cursors,
    sink_context,
    sync_run,
)
from tests.sinks.small_batches import SmallBatches

ROOT: Final = Path(__file__).resolve().parents[2]
ATTEMPTS: Final = 3
Victim = Literal["trainer", "delivery"]


def run_kill_trials(count: int, seed: int, victim: Victim) -> list[str]:
    """Kill `count` processes; return what went wrong, one line each."""
    dice = random.Random(seed)  # noqa: S311 - to repeat a trial, not to keep a secret
    failures: list[str] = []
    for number in range(-(-count // ATTEMPTS)):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            run_dir.mkdir()
            RunInfo.new("run", None).save(run_dir)
            mode = dice.choice(["thread", "process"]) if victim == "trainer" else "process"
            try:
                for attempt in range(1, ATTEMPTS + 1):
                    _attempt(run_dir, attempt, mode, victim, dice)
                _finish(run_dir)
                failures += [f"trial {number} ({mode}): {each}" for each in _compare(run_dir)]
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failures.append(f"trial {number} ({mode}): {error!r}")
    return failures


def _attempt(run_dir: Path, attempt: int, mode: str, victim: Victim, dice: random.Random) -> None:
    command = [sys.executable, __file__, str(run_dir), str(attempt), mode]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: S603 - this very file
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as trainer:
        assert trainer.stdin is not None
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"delivering\n", "the trainer did not come that far"
        time.sleep(dice.uniform(0.0, 0.3))  # the random moment
        if victim == "trainer":
            trainer.kill()
        else:
            _kill_delivery(run_dir)
        trainer.stdin.close()
        trainer.wait(30)


def _kill_delivery(run_dir: Path) -> None:
    owner = list_cursors(run_dir)["jsonl"].owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)


def _finish(run_dir: Path) -> None:
    """Deliver the rest, when whoever still delivers has come to an end."""
    info = RunInfo.load(run_dir)
    for each in info.attempts:
        each.outcome = each.outcome or "crashed"
    info.save(run_dir)
    _until(lambda: not _owner_lives(run_dir), 30)
    (account,) = sync_run(run_dir, [SmallBatches()], pace=Pace(backoff=Backoff(ceiling=0.1)))
    assert account.complete, account


def _owner_lives(run_dir: Path) -> bool:
    cursor = list_cursors(run_dir).get("jsonl")
    return cursor is not None and cursor.owner is not None and bool(cursor.owner.lives())


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the delivery process did not end"
        time.sleep(0.01)


def _compare(run_dir: Path) -> list[str]:
    """What is wrong with the file, compared to the journal."""
    written = [
        (row.attempt, row.rank, row.seq)
        for row in JournalReader(run_dir).rows()
        if not row.superseded
    ]
    lines = (run_dir / "events.jsonl").read_bytes().splitlines()
    rows = [orjson.loads(line) for line in lines]
    arrived = [(row["attempt"], row["rank"], row["seq"]) for row in rows]
    wrong: list[str] = []
    if lost := set(written) - set(arrived):
        wrong.append(f"{len(lost)} events lost, such as {min(lost)}")
    if twice := [place for place, times in Counter(arrived).items() if times > 1]:
        wrong.append(f"{len(twice)} events twice, such as {min(twice)}")
    if strange := set(arrived) - set(written):
        wrong.append(f"{len(strange)} events that were never journalled")
    if arrived != sorted(arrived):
        wrong.append("not in order")
    return wrong


def main() -> None:
    """Publish until killed, or until told to end."""
    run_dir, attempt, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    info = RunInfo.load(run_dir)
    info.attempts.append(AttemptInfo.here(attempt, None))
    info.save(run_dir)
    options = BusOptions(flush_interval=0.01, deliver="process" if mode == "process" else "thread")
    bus = Bus(run_dir / JOURNAL_FOLDER, attempt=attempt, options=options)
    bus.publish(RunStarted(name="run", run_id=info.id, attempt=attempt, config={}, facts={}))
    before = _generation(run_dir)
    bus.add_sink(SmallBatches(), sink_context(run_dir))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    told = False
    step = 0
    while not over.is_set():
        for _ in range(10):
            step += 1
            bus.publish(MetricsLogged(step=step, metrics={"n": float(step)}))
        if not told and _generation(run_dir) > before:
            told = True
            sys.stdout.write("delivering\n")
            sys.stdout.flush()
        time.sleep(0.005)
    assert bus.close(20, last=lambda: RunEnded(outcome="finished")).written
    info.attempts[-1].outcome = "finished"
    info.save(run_dir)


def _generation(run_dir: Path) -> int:
    cursor = list_cursors(run_dir).get("jsonl")
    return cursor.owner.generation if cursor is not None and cursor.owner is not None else 0


if __name__ == "__main__":
    main()
