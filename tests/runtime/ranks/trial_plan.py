"""What one rank of the randomised trials is going to do, and what is going to hold it up.

Half of what is random is the same on every rank, because they train together: the evaluations,
saves and compilations, who is slow, who is starved and when. Each draws the rest for itself.
"""

import ctypes
import os
import random
import signal
import subprocess
import time
from typing import Final, Literal

from pydantic import field_serializer
from torch.distributed import ReduceOp

from bus import Evaluate, Event, Log, Save, SetLearningRate, Stop

REQUESTS: Final = (Stop(), Save(), Evaluate(), Log(), SetLearningRate(value=0.1))
SIGNALS: Final = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1}

Starving = Literal["writer", "lock", "busy", "stopped"]
STARVING: Final[tuple[Starving, ...]] = ("writer", "lock", "busy", "stopped")

LOCKED: Final = ctypes.PyDLL(None)
"""The C library, whose functions keep Python's lock when they are called from here."""


class Starved(Event):
    """The machine, or the user's code, keeps a rank's writer thread from its work.

    Attributes:
        how: "writer": writing the event down takes long, and the writer thread does it. "lock": a
            subscriber sits in a C call with Python's lock, so no thread of the rank runs. "busy":
            a subscriber computes, and the threads share the lock. "stopped": SIGSTOP to the rank.
        seconds: For how long.
    """

    type: Literal["starved"] = "starved"
    how: Starving
    seconds: float

    @field_serializer("seconds")
    def take_time(self, seconds: float) -> float:
        """As a field of a user's event may, on whatever thread writes it down."""
        if self.how == "writer":
            time.sleep(seconds)
        return seconds


def hold_up(event: Starved) -> None:
    """Do what a subscriber should not."""
    if event.how == "lock":
        LOCKED.usleep(int(event.seconds * 1e6))
    elif event.how == "busy":
        compute(event.seconds)


def stop_for(seconds: float) -> None:
    """Have this process stopped, and go on later."""
    pid = os.getpid()
    script = f"kill -STOP {pid}; sleep {seconds}; kill -CONT {pid}"
    subprocess.run(["/bin/sh", "-c", script], check=True)  # noqa: S603 - as above


def compute(seconds: float) -> None:
    """Run Python code for so long; tracing a model is that, for most of its time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


class Plan:
    """What one rank is going to do in one trial.

    Attributes:
        batches: Data that this rank has for training; ranks have different amounts.
        last: How they agree on the last step: by MAX, so that those without data go on beside those
            that have some, or by MIN.
        compiles: Whether torch.compile does it (seconds, once in a process); else what holds up
            the step is Python code that takes as long as a small model's compilation.
    """

    def __init__(self, trial: int, rank: int, size: int, seed: int) -> None:
        shared = random.Random(seed * 10_000 + trial)  # noqa: S311 - no secret
        self.random = own = random.Random((seed * 10_000 + trial) * 100 + rank)  # noqa: S311 - likewise
        steps = shared.randint(20, 80)
        self.batches = steps + own.choice([0, 0, 1, 5])
        self.last = shared.choice([ReduceOp.MAX, ReduceOp.MIN])
        self.pace = shared.choice([0.0, 0.0005, 0.002, 0.005])
        self.slow = shared.randrange(size) == rank
        self.evaluate_every = shared.choice([0, 0, 7, 30])
        self.save_every = shared.choice([0, 0, 0, 13, 30])
        self.compile_at = shared.randrange(steps) if shared.random() < 0.2 else -1
        self.compiles = self.compile_at >= 0 and shared.random() < 0.2
        self.starved_at = shared.randrange(steps) if shared.random() < 0.3 else -1
        self.starved = Starved(how=shared.choice(STARVING), seconds=shared.uniform(0.05, 0.4))
        self.starved_at = self.starved_at if shared.randrange(size) == rank else -1
        limited = shared.random() < 0.2
        self.limit = own.uniform(0.02, 0.6) if limited and own.random() < 0.7 else None
        self.limit_by = shared.choice(["timer", "subscriber"])
        kinds = [*range(len(REQUESTS)), *SIGNALS] if shared.random() < 0.5 else range(1, 5)
        self.asks = [
            (*self._moment(steps), own.choice(kinds)) for _ in range(own.choice([0, 0, 1, 1, 3]))
        ]
        if shared.random() < 0.2:  # all are told, within a tenth of a second
            self.asks.append(("training", shared.randrange(steps), "SIGTERM"))

    def _moment(self, steps: int) -> tuple[str, int]:
        """Where to ask: in which kind of phase, and in the how manieth."""
        there = {"evaluating": self.evaluate_every, "saving": self.save_every}
        there["compiling"] = self.compile_at + 1
        places = ["training", *(place for place, often in there.items() if often)]
        place = self.random.choice(places)
        return place, 0 if place == "compiling" else self.random.randrange(
            steps if place == "training" else 2
        )
