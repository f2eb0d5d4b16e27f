"""Kills a training process again and again, and says what its journal lost that it must not.

`run_sigkill_trials(count, seed, durability)` is for tests and for the soak benchmark, which load
this file by its path. A trial: a child publishes through `runtime.Run` at random speed and notes in
shared memory what each call of `log` that returned had published, and when; another of its threads
notes how much of it was written. After SIGKILL at a random moment

- nothing that had been written is missing;
- `durability="write"`: nothing that `log` had returned from is missing;
- otherwise nothing is missing that was published longer ago than the flush interval and the time
  for which the child's threads had not come to run;
- what is there is whole, in order and without holes, damage is at most the one torn line;
- a resumed run goes on in the same folder and all of it reads.

Children are forked from one process that has imported everything and started no thread.
"""

import argparse
import contextlib
import itertools
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bus import JournalReader, MetricsLogged, Record, RunInfo, run_state
from bus.testing import JournalAsserter
from runtime import Run

ROOT: Final = Path(__file__).resolve().parents[3]
FLUSH: Final = 0.02
MARGIN: Final = 0.05
"""Seconds that a flush itself may take: encoding and writing a few thousand events."""

_MOST: Final = 1_000_000
_RETURNED, _WRITTEN, _BEAT, _LATE, _TIMES = range(5)


class Shared:
    """Numbers that outlive the child: what returned, what was written, when, how late it ran."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate((_TIMES + _MOST) * 8)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._view = memoryview(self._memory).cast("d")

    def __getitem__(self, index: int) -> float:
        return self._view[index]

    def __setitem__(self, index: int, value: float) -> None:
        self._view[index] = value


def child(folder: str, shared: str, durability: Literal["interval", "write"], seed: int) -> None:
    """Publish for ever at random speed."""
    noted = Shared(Path(shared))
    chance = random.Random(seed)  # noqa: S311 - no secret
    run = Run("victim", dir=folder, durability=durability, flush_interval=FLUSH)
    threading.Thread(target=_watch, args=(run, noted), daemon=True).start()
    numbers = iter(range(_MOST - 1))
    while True:
        for number in itertools.islice(numbers, chance.choice((1, 5, 20, 1000))):
            run.log({"n": float(number), "loss": chance.random()}, step=number)
            noted[_TIMES + number] = time.monotonic()
            noted[_RETURNED] = number + 1
        time.sleep(chance.choice((0.0, 0.0001, 0.003, 0.03)))


def _watch(run: Run, noted: Shared) -> None:
    """Note what is written, and how late a thread of this process gets to run."""
    while True:
        before = time.monotonic()
        time.sleep(0.002)
        now = time.monotonic()
        noted[_LATE] = max(noted[_LATE], now - before - 0.002)
        noted[_BEAT] = now
        noted[_WRITTEN] = max(0, run.statistics().journalled - 1)  # all but RunStarted


def nursery() -> None:
    """Fork a child for each line of standard input: folder, shared file, durability, seed."""
    for line in sys.stdin:
        folder, shared, durability, seed = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            try:
                child(folder, shared, "write" if durability == "write" else "interval", int(seed))
            finally:
                os._exit(1)  # a child ends by being killed
        print(pid, flush=True)  # noqa: T201 - the answer
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


@contextlib.contextmanager
def _nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        if process.wait(10) != 0:
            raise RuntimeError("the process that forks the children failed")


@dataclass(frozen=True)
class _Death:
    """What was known of a child when it was killed.

    Attributes:
        owed: Events 0 to this number, excluded, have to be in the journal.
        published: Events that `log` had returned from.
    """

    owed: int
    published: int


def run_sigkill_trials(
    count: int, seed: int, durability: Literal["interval", "write"] = "interval"
) -> list[str]:
    """Kill `count` training processes at random moments; return what was wrong, a line each."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    failures: list[str] = []
    with _nursery() as process, tempfile.TemporaryDirectory() as parent:
        for number in range(count):
            folder = Path(parent) / str(number)
            folder.mkdir()
            death = _kill_one(process, folder, durability, chance)
            reader = JournalReader(folder / "victim")
            records = list(reader.records())
            found = [
                *_examine(folder / "victim", records, reader.damage, death),
                *_go_on(folder / "victim", records, chance),
            ]
            failures += [f"trial {number} of seed {seed}, {durability}: {each}" for each in found]
    return failures


def _kill_one(
    process: subprocess.Popen[str], folder: Path, durability: str, chance: random.Random
) -> _Death:
    assert process.stdin is not None
    assert process.stdout is not None
    noted = Shared(folder / "shared")
    seed = chance.randrange(1 << 30)
    process.stdin.write(f"{folder}\t{folder / 'shared'}\t{durability}\t{seed}\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 30
    while not noted[_BEAT]:
        if time.monotonic() > deadline:
            raise TimeoutError("the child does not publish")
        time.sleep(0.001)
    time.sleep(chance.choice((0.003, 0.03, 0.3)) * chance.random())  # the random moment
    written, returned = int(noted[_WRITTEN]), int(noted[_RETURNED])
    killed = time.monotonic()
    stall = 2 * noted[_LATE] + (killed - noted[_BEAT])
    os.kill(pid, signal.SIGKILL)
    if int(process.stdout.readline()) != -signal.SIGKILL:
        raise RuntimeError("the child ended before it was killed")
    if durability == "write":
        return _Death(owed=int(noted[_RETURNED]), published=int(noted[_RETURNED]))
    due = killed - FLUSH - stall - MARGIN
    old = sum(1 for _ in itertools.takewhile(lambda n: noted[_TIMES + n] < due, range(returned)))
    return _Death(owed=max(written, old), published=int(noted[_RETURNED]))


def _examine(run_dir: Path, records: list[Record], damage: int, death: _Death) -> Iterator[str]:
    numbers = [r.event.metrics["n"] for r in records if isinstance(r.event, MetricsLogged)]
    if len(numbers) < death.owed:
        yield f"{len(numbers)} events are there, {death.owed} are owed of {death.published}"
    if len(numbers) > death.published + 1:  # one `log` may not have returned
        yield f"{len(numbers)} events are there, {death.published} were published"
    if numbers != [float(number) for number in range(len(numbers))]:
        yield "events are missing in between, twice, or out of order"
    if [record.seq for record in records] != list(range(1, len(records) + 1)):
        yield "positions have holes"
    if damage:
        yield f"{damage} lines are damaged, though an open last line is none"
    if run_state(run_dir) != "crashed":
        yield f"the run counts as {run_state(run_dir)}"


def _go_on(run_dir: Path, before: list[Record], chance: random.Random) -> Iterator[str]:
    kept = chance.randrange(max(1, len(before)))  # it may have been killed before any flush
    with Run("victim", resume=run_dir, from_step=kept) as run:
        for number in range(5):
            run.log({"n": float(number)}, step=kept + 1 + number)
    asserter = JournalAsserter(run_dir)
    try:
        asserter.unbroken().begins().ends("finished")
    except AssertionError as error:
        yield str(error)
    if asserter.damage > 1:
        yield f"{asserter.damage} lines are damaged, one can be torn"
    if [record for record in asserter.records if record.attempt == 1] != before:
        yield "the first attempt reads differently after the resumption"
    rows = JournalReader(run_dir).rows(types={"metrics_logged"}, superseded=False)
    steps = [row.data["step"] for row in rows]
    if steps != list(range(min(kept + 1, len(before) - 1))) + list(range(kept + 1, kept + 6)):
        yield f"resumed at step {kept} of {len(before)}, the run reads {steps}"
    outcomes = [attempt.outcome for attempt in RunInfo.load(run_dir).attempts]
    if outcomes != ["crashed", "finished"]:
        yield f"the attempts count as {outcomes}"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        nursery()
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("count", type=int)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--durability", choices=("interval", "write"), default="interval")
        given = parser.parse_args()
        problems = run_sigkill_trials(given.count, given.seed, given.durability)
        print("\n".join(problems) or f"{given.count} trials, nothing lost")  # noqa: T201 - for people
        sys.exit(bool(problems))
