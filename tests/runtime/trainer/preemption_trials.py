"""Preempts trainings at random moments, starts them again, and says what is not as promised.

`run_preemptions(count, seed)` is for tests and the soak benchmark; preemption_training.py trains.

A trial: one process trains, or several ranks; at any moment, inside an evaluation, a save, a
compilation or a collective that waits too, some of them get SIGTERM or SIGUSR1, or a step fails
while they are asked to leave; others go on, and may get one too, until some reach the end. Whoever
was preempted has saved the state of the step at which it ended, or its journal says why not; of
several ranks all left at one step. In the end weights, optimizer, generators and logged values of
each rank are those of a training that nobody preempted, and all of it is one run.
"""

import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from bus import AlertRaised, DecisionApplied, JournalReader, RunInfo
from runtime._checkpoint_files import checkpoint_step
from runtime._checkpoint_load import last_good_checkpoint
from tests.runtime.ranks.launching import environments
from tests.runtime.trainer import preemption_training
from tests.runtime.trainer.nursery import Nursery, started
from tests.runtime.trainer.preemption_training import GRACE, STEPS, Job, outcome_file
from tests.runtime.trainer.resume_parts import differences

HANG: Final = 60.0
MOMENTS: Final = {"training": 1, "stepping": STEPS, "evaluating": 10, "saving": 4, "compiling": 2}
"""What a training says of itself, and how often it does so at least."""

OF_RANKS: Final = {"blocking": 1, "tearing": 1}
"""What one of several says besides, if it is told to."""

LAUNCHED: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LEFT: Final = ("ended 143", "ended 138")
KILLED: Final = ("ended -15", "ended -10")


@dataclass(frozen=True)
class Moment:
    """When which ranks are signalled.

    Attributes:
        kind: What a training says then.
        count: How many times it has said that.
        delay: Seconds later.
        number: The signal.
        rank: Who says it.
        told: Who is signalled: nobody if a step fails instead.
        step: Where that rank lets the others wait, or fails, if it is told to.
    """

    kind: str
    count: int
    delay: float
    number: int
    rank: int
    told: tuple[int, ...]
    step: int


class Process:
    """One process of a training.

    Attributes:
        words: How often it has said what.
        end: How it has ended, once it has.
    """

    def __init__(self, nursery: Nursery, job: Job) -> None:
        self.words: Counter[str] = Counter()
        self.end = ""
        self._lines = nursery.lines
        self._pid = nursery.fork(json.dumps(asdict(job)))

    def says(self, word: str, count: int = 1) -> bool:
        """Wait until it has said something so often; False if it has ended before."""
        while self.words[word] < count and not self.end:
            self._listen()
        return self.words[word] >= count

    def wait(self) -> str:
        """Wait for its end; return how it has ended."""
        while not self.end:
            self._listen()
        return self.end

    def signal(self, number: int) -> None:
        """Signal it, once it catches signals."""
        if self.says("training"):
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(self._pid, number)

    def _listen(self) -> None:
        line = self._lines.next(HANG) or f"nothing was heard for {HANG:g} s"
        if line in (*MOMENTS, *OF_RANKS, "ending"):
            self.words[line] += 1
        else:
            self.end = line


class Trials:
    """Trainings that are preempted, and those that were not.

    Attributes:
        preempted: How often all processes of a training have ended because some were told to.
        saved: How often with a checkpoint of their last step.
        slowest: The longest time from the moment to the end of the last process, in seconds.
        failures: What was not as promised.
    """

    def __init__(self, nurseries: list[Nursery], parent: Path, chance: random.Random) -> None:
        self.preempted = self.saved = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._nurseries, self._parent, self._chance = nurseries, parent, chance
        self._whole: dict[str, list[dict[str, object]]] = {}
        for how in ("plain", "compiled"):
            ends = [each.end for each in self._attempt(parent / how, 0, how, None)]
            assert set(ends) == {"ended 0"}, ends
            self._whole[how] = self._outcomes(parent / how)

    def trial(self, number: int) -> None:
        """Train once, preempted up to three times on the way."""
        how = self._chance.choice(("plain", "plain", "compiled"))
        folder, done = self._parent / str(number), 0
        moments = [self._moment(how) for _ in range(self._chance.randint(1, 3))]
        if number == 0 and len(self._nurseries) > 1:  # for certain, however few trials there are
            moments[0] = self._moment(how, "tearing")
        ends: list[str] = []
        for attempt, moment in enumerate([*moments, None]):
            processes = self._attempt(folder, attempt, how, moment)
            ends = [each.end for each in processes]
            if set(ends) == {"ended 0"} or not all(each.startswith("ended") for each in ends):
                break
            done += 1
            wrong = self._wrong(folder, processes)
            self.failures += [f"{number} {moment}: {each}" for each in wrong]
        self.preempted += done
        if set(ends) != {"ended 0"}:
            self.failures.append(f"{number} {moments}: it did not get to the end: {ends}")
            return
        pairs = zip(self._whole[how], self._outcomes(folder), strict=True)
        found = [each for whole, other in pairs for each in differences(whole, other)]
        runs = list((folder / "runs").glob("*/run.json"))
        found += [f"{len(runs)} runs"] if len(runs) != 1 else []
        attempts = len(RunInfo.load(runs[0].parent).attempts)
        found += [f"{attempts} attempts after {done} preemptions"] if attempts != done + 1 else []
        self.failures += [f"{number}, {how}, {moments}: {each}" for each in found]

    def _moment(self, how: str, kind: str | None = None) -> Moment:
        """When to send what: after so many words of a kind, so many seconds later."""
        chance, size = self._chance, len(self._nurseries)
        kinds = MOMENTS if size == 1 else MOMENTS | OF_RANKS
        kind = kind or chance.choice([e for e in kinds if e != "compiling" or how == "compiled"])
        told = chance.sample(range(size), chance.randint(1, size))
        return Moment(
            kind,
            count=chance.randint(1, kinds[kind]),
            delay=chance.choice((0.0, chance.uniform(0, 0.02))),
            number=chance.choice((signal.SIGTERM, signal.SIGUSR1)),
            rank=chance.randrange(size),
            told=() if kind == "tearing" else tuple(told),
            step=chance.randrange(1, 4),
        )

    def _attempt(
        self, folder: Path, attempt: int, how: str, moment: Moment | None
    ) -> list[Process]:
        """Run all processes to their end, with signals at a moment."""
        folder.mkdir(exist_ok=True)
        size = len(self._nurseries)
        launched = environments(size) if size > 1 else [{}]
        processes: list[Process] = []
        for rank, nursery in enumerate(self._nurseries):
            given = {name: launched[rank][name] for name in LAUNCHED if size > 1}
            job = Job(str(folder), how == "compiled", given | {"SLURM_RESTART_COUNT": str(attempt)})
            if moment is not None and moment.rank == rank:
                blocks, tears = moment.kind == "blocking", moment.kind == "tearing"
                job = replace(
                    job,
                    blocks_at=moment.step if blocks else None,
                    tears_at=moment.step if tears else None,
                )
            processes.append(Process(nursery, job))
        if moment is not None and processes[moment.rank].says(moment.kind, moment.count):
            began = time.monotonic()
            for rank in moment.told:
                time.sleep(moment.delay)
                processes[rank].signal(moment.number)
            for each in processes:
                each.wait()
            self.slowest = max(self.slowest, time.monotonic() - began)
        for each in processes:
            each.wait()
        return processes

    def _wrong(self, folder: Path, processes: list[Process]) -> list[str]:
        """What is wrong with what a preempted training has left behind."""
        ends = [each.end for each in processes]
        late = [each for each in processes if each.end in KILLED and each.words["ending"]]
        if late and all(each in late or each.end == "ended 0" for each in processes):
            return []  # after their training
        if not set(ends) <= set(LEFT):
            return [str(ends)]
        (run,) = [path.parent for path in (folder / "runs").glob("*/run.json")]
        last = RunInfo.load(run).attempts[-1]
        records = [
            record
            for record in JournalReader(run).records(
                types=(DecisionApplied, AlertRaised), superseded=True
            )
            if record.attempt == last.number
        ]
        steps: dict[int, int] = {}
        for record in records:
            if isinstance(record.event, DecisionApplied):
                steps.setdefault(record.rank, record.event.step or 0)
        reasons = [each.event.text for each in records if isinstance(each.event, AlertRaised)]
        good = last_good_checkpoint(folder)
        found = 0 if good is None else checkpoint_step(good)
        wrong = [] if last.outcome == "preempted" else [f"run.json says {last.outcome}"]
        self.saved += {found} == set(steps.values())
        if len(steps) < len(processes) or (max(steps.values()) > found and not reasons):
            wrong.append(f"decided at steps {steps}, saved at {found}, and no reason stated")
        return wrong

    def _outcomes(self, folder: Path) -> list[dict[str, object]]:
        """What every process has written down."""
        files = [outcome_file(folder, rank) for rank in range(len(self._nurseries))]
        return [json.loads(each.read_text(encoding="utf-8")) for each in files]


def run_preemptions(count: int, seed: int, size: int = 1) -> tuple[float, list[str]]:
    """Preempt so many trainings of so many processes.

    Returns:
        The longest time from a signal to the end of all, and what was not as promised.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as parent, contextlib.ExitStack() as stack:
        script = preemption_training.__file__
        nurseries = [stack.enter_context(started(script)) for _ in range(size)]
        trials = Trials(nurseries, Path(parent), chance)
        number = 0
        while trials.preempted < count and len(trials.failures) < 20:
            trials.trial(number)
            number += 1
    if trials.saved < trials.preempted // 2:
        trials.failures.append(f"only {trials.saved} of {trials.preempted} have saved")
    if trials.slowest > GRACE:
        trials.failures.append(f"one took {trials.slowest:.1f} s of a grace time of {GRACE:g} s")
    return trials.slowest, [f"{each} (seed {seed})" for each in trials.failures]
