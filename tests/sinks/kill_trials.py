"""Kills trainers and delivery processes at random moments, mid-batch, and counts what arrived.

A trial is one run of several attempts. Each attempt publishes as fast as it is allowed to while a
sink that promises each event once is delivered to; the trainer (or the process that delivers for
it) is killed with SIGKILL after a random time, and the next attempt goes on. At the end `sync_run`
delivers the rest, and the destination must hold what the journal holds: everything, once.

As a script it is such a trainer, given a `Trainer` as JSON.
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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pkgutil import resolve_name
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
    Sink,
    list_cursors,
    sink_context,
    sync_run,
)
from tests.interpreter import shared_interpreter
from tests.waiting import eventually

ATTEMPTS: Final = 3
BACKLOG: Final = 2000
Victim = Literal["trainer", "delivery"]


@dataclass(frozen=True)
class Destination:
    """Where it is delivered to.

    Attributes:
        sink: The class, as in "package.module:Class".
        name: What that class is called in a run.
        compare: What is wrong in the destination, compared to the journal of a run.
        settings: What the class is made with.
        moment: Seconds within which a kill comes, from when somebody begins to deliver.
        resumes: Whether an attempt goes on at a step of the one before, and repeats what is beyond.
    """

    sink: str
    name: str
    compare: Callable[[Path], list[str]]
    settings: dict[str, str] = field(default_factory=dict)
    moment: float = 0.3
    resumes: bool = False


@dataclass
class Trials:
    """What came of them: failures, one line each, and how many kills left a batch under way."""

    failures: list[str] = field(default_factory=list)
    kills: int = 0
    mid_batch: int = 0


@dataclass(frozen=True)
class Trainer:
    """What a process that trains is told."""

    run_dir: str
    attempt: int
    from_step: int | None
    deliver: Literal["thread", "process"]
    sink: str
    settings: dict[str, str]


def run_kill_trials(
    count: int, seed: int, victim: Victim, destination: Destination | None = None
) -> Trials:
    """Kill `count` processes, at least; they deliver to a file unless told where to."""
    dice = random.Random(seed)  # noqa: S311 - to repeat a trial, not to keep a secret
    to = destination or FILE
    trials = Trials()
    for number in range(-(-count // ATTEMPTS)):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            run_dir.mkdir()
            RunInfo.new("run", None).save(run_dir)
            mode = dice.choice(["thread", "process"]) if victim == "trainer" else "process"
            try:
                for attempt in range(1, ATTEMPTS + 1):
                    trainer = _trainer(run_dir, attempt, mode, to, dice)
                    trials.mid_batch += _attempt(trainer, victim, to, dice)
                    trials.kills += 1
                _finish(run_dir, to)
                wrong = to.compare(run_dir)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                wrong = [repr(error)]
            trials.failures += [f"trial {number} ({mode}): {each}" for each in wrong]
    return trials


def _trainer(
    run_dir: Path, attempt: int, mode: str, to: Destination, dice: random.Random
) -> Trainer:
    from_step = None
    if to.resumes and attempt > 1:
        last = max(steps_of(run_dir), default=0)
        from_step = dice.randint(last // 2, last)
    return Trainer(str(run_dir), attempt, from_step, mode, to.sink, to.settings)


def steps_of(run_dir: Path, *, superseded: bool = False) -> list[int]:
    """The steps of the metrics in the journal, in order."""
    return [
        record.event.step
        for record in JournalReader(run_dir).records(types=(MetricsLogged,), superseded=superseded)
        if record.event.step is not None
    ]


def _attempt(trainer: Trainer, victim: Victim, to: Destination, dice: random.Random) -> bool:
    """Train until the kill; tell whether a batch was under way then."""
    program = [__file__, orjson.dumps(asdict(trainer)).decode()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with shared_interpreter().start(program, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "delivering\n", "the trainer did not come that far"
        time.sleep(dice.uniform(0.0, to.moment))  # the random moment
        if victim == "trainer":
            process.kill()
        else:
            _kill_delivery(Path(trainer.run_dir), to)
        positions = list_cursors(Path(trainer.run_dir))[to.name].positions
        process.stdin.close()
        process.wait(60)
    return any(position.parts for position in positions.values())


def _kill_delivery(run_dir: Path, to: Destination) -> None:
    owner = list_cursors(run_dir)[to.name].owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)


def _finish(run_dir: Path, to: Destination) -> None:
    """Deliver the rest, when whoever still delivers has come to an end."""
    info = RunInfo.load(run_dir)
    for each in info.attempts:
        each.outcome = each.outcome or "crashed"
    info.save(run_dir)
    eventually(lambda: not _owner_lives(run_dir, to), 300)  # what it gives itself
    sink = _made(to.sink, to.settings)
    (account,) = sync_run(run_dir, [sink], pace=Pace(backoff=Backoff(ceiling=0.1)))
    assert account.complete, account


def _made(sink: str, settings: dict[str, str]) -> Sink:
    return resolve_name(sink)(**settings)


def _owner_lives(run_dir: Path, to: Destination) -> bool:
    cursor = list_cursors(run_dir).get(to.name)
    return cursor is not None and cursor.owner is not None and bool(cursor.owner.lives())


def _compare_file(run_dir: Path) -> list[str]:
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


def compare_points(run_dir: Path, points: Iterable[tuple[float, float]]) -> list[str]:
    """What is wrong with steps and values somewhere, compared to the journal: each is there once.

    A step that a resumed attempt trained again keeps its first value, and one beyond the last
    attempt's last stays if it had been delivered.
    """
    points = list(points)
    arrived = Counter(step for step, _ in points)
    wrong: list[str] = []
    if lost := set(steps_of(run_dir)) - set(arrived):
        wrong.append(f"{len(lost)} of {len(points)} points lost, such as that of step {min(lost)}")
    if twice := [step for step, times in arrived.items() if times > 1]:
        wrong.append(f"{len(twice)} points twice, such as that of step {min(twice)}")
    if strange := set(arrived) - set(steps_of(run_dir, superseded=True)):
        wrong.append(f"{len(strange)} points that were never journalled, such as {min(strange)}")
    if changed := [step for step, value in points if value != float(step)]:
        wrong.append(f"{len(changed)} points have another value, such as that of {min(changed)}")
    return wrong


FILE: Final = Destination("tests.sinks.small_batches:SmallBatches", "jsonl", _compare_file)


def main() -> None:
    """Publish until killed, or until told to end."""
    told = Trainer(**orjson.loads(sys.argv[1]))
    run_dir = Path(told.run_dir)
    info = RunInfo.load(run_dir)
    info.attempts.append(AttemptInfo.here(told.attempt, told.from_step))
    info.save(run_dir)
    options = BusOptions(flush_interval=0.01, deliver=told.deliver)
    bus = Bus(run_dir / JOURNAL_FOLDER, attempt=told.attempt, options=options)
    bus.publish(
        RunStarted(
            name="run",
            run_id=info.id,
            attempt=told.attempt,
            resumed_from_step=told.from_step,
            config={},
            facts={},
        )
    )
    sink = _made(told.sink, told.settings)
    before = _generation(run_dir, sink)
    bus.add_sink(sink, sink_context(run_dir))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    _train(bus, told.from_step or 0, over, lambda: _generation(run_dir, sink) > before)
    assert bus.close(20, last=lambda: RunEnded(outcome="finished")).written
    info.attempts[-1].outcome = "finished"
    info.save(run_dir)


def _train(bus: Bus, step: int, over: threading.Event, delivers: Callable[[], bool]) -> None:
    """Publish 2,000 metrics a second, and say when somebody has begun to deliver.

    Who begins late, on a busy machine, finds `BACKLOG` of them and no more.
    """
    said, enough = False, step + BACKLOG
    while not over.is_set():
        for _ in range(10 if said or step < enough else 0):
            step += 1
            bus.publish(MetricsLogged(step=step, metrics={"n": float(step)}))
        if not said and delivers():
            said = True
            sys.stdout.write("delivering\n")
            sys.stdout.flush()
        time.sleep(0.005)


def _generation(run_dir: Path, sink: Sink) -> int:
    cursor = list_cursors(run_dir).get(sink.name)
    return cursor.owner.generation if cursor is not None and cursor.owner is not None else 0


if __name__ == "__main__":
    main()
