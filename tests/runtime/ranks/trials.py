"""Randomised trials of ranks that train together: what one asks for, all do at the same step.

`run_trials` starts the ranks once and has them make all trials; this file is also their program.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed

from bus import Evaluate, Handle, Log, Save, SetLearningRate, Stop
from runtime import Run
from tests.runtime.ranks.launching import launch

REQUESTS = (Stop(), Save(), Evaluate(), Log(), SetLearningRate(value=0.1))
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1}
ENDS = ("stop", *SIGNALS)


@dataclass(frozen=True)
class Trials:
    """What came of many trials.

    Attributes:
        count: How many there were.
        asked: Requests made in all of them together.
        stopped: Trials that ended early because of a request or a signal.
        slowest: The longest time from asking for a stop to the last rank's last step, in seconds.
        failures: What ranks did not do alike, a line each.
    """

    count: int
    asked: int
    stopped: int
    slowest: float
    failures: list[str]


def run_trials(folder: Path, *, size: int, count: int, seed: int, timeout: float) -> Trials:
    """Start `size` ranks, have them make `count` trials, and compare what each of them did."""
    ended = launch(__file__, folder, count, seed, size=size, timeout=timeout)
    failures = [f"rank {each.rank}: {each}" for each in ended if each.code != 0]
    return compared(folder, size, failures)


def compared(folder: Path, size: int, failures: list[str]) -> Trials:
    """Read what every rank wrote down and compare it trial by trial."""
    written = [
        [json.loads(line) for line in (folder / f"rank{rank}.jsonl").read_text().splitlines()]
        for rank in range(size)
    ]
    trials = list(zip(*written, strict=False))
    slowest: list[float] = []
    for number, ranks in enumerate(trials):
        if any(rank["seen"] != ranks[0]["seen"] for rank in ranks):
            found = [rank["seen"] for rank in ranks]
            failures.append(f"trial {number}: the ranks did not act alike: {found}")
        failures += [
            f"trial {number}, rank {rank}: {count} requests were never resolved"
            for rank, done in enumerate(ranks)
            if (count := done["open"])
        ]
        stops = [when for rank in ranks for kind, when in rank["asked"] if kind in ENDS]
        if any(each["type"] in ("stop", "preempt") for _, each in ranks[0]["seen"]):
            slowest.append(max(rank["ended"] for rank in ranks) - min(stops))
    asked = sum(len(rank["asked"]) for ranks in trials for rank in ranks)
    return Trials(len(trials), asked, len(slowest), max(slowest, default=0.0), failures)


class Rank:
    """One rank's part in one trial: what it asks for and when, how slow it is, what it sees."""

    def __init__(self, trial: int, rank: int, size: int, seed: int) -> None:
        shared = random.Random(seed * 10_000 + trial)  # noqa: S311 - no secret
        self.steps = shared.randint(20, 80)
        self.pace = shared.choice([0.0, 0.0005, 0.002, 0.005])
        self.slow = shared.randrange(size) == rank
        self.evaluate_every = shared.choice([0, 7, 30])
        self.random = random.Random((seed * 10_000 + trial) * 100 + rank)  # noqa: S311 - no secret
        kinds = [*range(len(REQUESTS)), *SIGNALS] if shared.random() < 0.5 else range(1, 5)
        self.asks = [
            (self.random.randrange(self.steps), self.random.choice(kinds))
            for _ in range(self.random.choice([0, 0, 1, 1, 3]))
        ]
        if shared.random() < 0.2:  # all are told, within a tenth of a second
            self.asks.append((shared.randrange(self.steps), "SIGTERM"))
        self.asked: list[tuple[str, float]] = []
        self.handles: list[Handle] = []
        self.seen: list[tuple[int, dict[str, object]]] = []
        self.ended = 0.0

    def train(self, run: Run) -> None:
        """Step after step, an all-reduce in each, evaluations between them."""
        run.catch_signals()
        threads: list[threading.Thread] = []
        for step in range(1, self.steps + 1):
            threads += [self.ask(run, kind) for at, kind in self.asks if at == step - 1]
            torch.distributed.all_reduce(torch.ones(1))
            time.sleep(self.pace * self.random.random() * (3 if self.slow else 1))
            decision = run.safe_point(step)
            self.seen += [(step, each.model_dump(mode="json")) for each in decision.requests]
            self.ended = time.time()
            if decision.stop:
                break
            if self.evaluate_every and step % self.evaluate_every == 0:
                self.evaluate(run)
        for thread in threads:
            thread.join()

    def evaluate(self, run: Run) -> None:
        """Another phase, with an all-reduce of its own."""
        run.control.begin_phase()
        for _ in range(5):
            torch.distributed.all_reduce(torch.ones(1))
            if run.control.tick():  # given up by all or by none, or the next one would hang
                break
        run.control.begin_phase()

    def ask(self, run: Run, kind: int | str) -> threading.Thread:
        """Ask for something in a moment, from a thread, or have this process signalled."""

        def body() -> None:
            time.sleep(self.random.random() * 0.1)  # at any moment of the steps to come
            if isinstance(kind, str):
                self.asked.append((kind, time.time()))
                os.kill(os.getpid(), SIGNALS[kind])
            else:
                self.asked.append((REQUESTS[kind].type, time.time()))
                self.handles.append(run.control.request(REQUESTS[kind]))

        thread = threading.Thread(target=body)
        thread.start()
        return thread


def main(folder: Path, count: int, seed: int) -> None:
    """Make all trials as one rank."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")
    with (folder / f"rank{rank}.jsonl").open("w") as file:
        for trial in range(count):
            part = Rank(trial, rank, size, seed)
            with Run(f"trial-{trial}", dir=folder / "runs", close_timeout=20.0) as run:
                part.train(run)
            row = {
                "seen": part.seen,
                "asked": part.asked,
                "open": sum(not handle.done for handle in part.handles),
                "ended": part.ended,
            }
            file.write(json.dumps(row) + "\n")
            file.flush()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
