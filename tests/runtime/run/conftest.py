"""Runs in a temporary folder, programs in processes of their own, a device that answers late."""

import contextlib
import math
import os
import random
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import runtime
from bus import JournalReader, MetricsLogged
from tests.interpreter import Ended, Program
from tests.waiting import HANG

ROOT = Path(__file__).parents[3]

_LAUNCHERS = ("TORCHELASTIC_", "SLURM_", "RANK", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture
def runs(tmp_path):
    """The folder of runs."""
    return tmp_path / "runs"


@pytest.fixture
def new_run(runs):
    """Make runs in that folder; those still open are closed after the test."""
    made: list[runtime.Run] = []

    def make(name: str = "gpt", **options) -> runtime.Run:
        run = runtime.Run(name, **{"dir": runs, "close_timeout": 10, **options})
        made.append(run)
        return run

    yield make
    for run in made:
        run.close(timeout=2)


@pytest.fixture(scope="session")
def logged():
    """Every metric of a closed or flushed run: (step, metrics) in the journal's order."""

    def read(folder: Path) -> list[tuple[int | None, dict[str, float]]]:
        records = JournalReader(folder).records(types=(MetricsLogged,))
        return [(record.event.step, record.event.metrics) for record in records]

    return read


@pytest.fixture
def run_program(interpreter, tmp_path):
    """Run a program in a process of its own; the parent's launcher, if any, is not inherited."""

    def run(source: str, *arguments: str, cwd: Path | None = None, check: bool = True) -> Ended:
        program = ["-W", "error", "-c", source, *arguments]
        done = interpreter.run(
            program, env=clean_environment(), cwd=cwd or tmp_path, timeout=3 * HANG
        )
        assert not check or done.code == 0, done.err
        return done

    return run


@pytest.fixture
def start_program(interpreter, tmp_path):
    """Start a program in a process of its own; what still runs after the test is killed."""
    with contextlib.ExitStack() as stack:

        def start(source: str, *arguments: str) -> Program:
            program = interpreter.start(
                ["-c", source, *arguments],
                env=clean_environment(),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
            )
            return stack.enter_context(program)

        yield start


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
    return {**kept, "PYTHONPATH": str(ROOT)}


class LateValues:
    """Scalars that were copied at the call and are delivered when the test says so."""

    def __init__(self, values: dict[str, float]) -> None:
        self._values = values
        self.delivered = False
        self._broken = False

    def ready(self) -> bool:
        """Whether the test has let them through."""
        if self._broken:
            raise RuntimeError("the device failed")
        return self.delivered

    def fail(self) -> None:
        """Let every question from now on raise."""
        self._broken = True

    def values(self) -> dict[str, float]:
        """The numbers; asking for them before `ready` would be a bug of the caller's."""
        assert self.delivered
        return dict(self._values)


class LateDevice:
    """A device whose answers the test releases, one, some or all, in any order.

    Attributes:
        calls: What was taken, in order.
        answers_at_once: Whether new calls need no release.
    """

    def __init__(self) -> None:
        self.calls: list[LateValues] = []
        self.answers_at_once = False

    def take(self, tensors: Mapping[str, torch.Tensor]) -> LateValues:
        """Copy the values now, deliver them when released."""
        values = LateValues({key: float(tensor.item()) for key, tensor in tensors.items()})
        values.delivered = self.answers_at_once
        self.calls.append(values)
        return values

    def release(self, *calls: int) -> None:
        """Deliver these calls' values; all of them if none is named."""
        for call in calls or range(len(self.calls)):
            self.calls[call].delivered = True


class JitteryDevice(LateDevice):
    """Answers by itself, each call after a time of its own up to 50 ms; some calls never.

    Args:
        seed: Decides how long each call takes, and which calls are never answered.
        lost: Share of calls that are never answered.

    Attributes:
        never: The calls that are never answered.
    """

    def __init__(self, seed: int, lost: float = 0.0) -> None:
        super().__init__()
        self.never: set[int] = set()
        self._random = random.Random(seed)  # noqa: S311 - phases, no secrets
        self._lost = lost

    def take(self, tensors: Mapping[str, torch.Tensor]) -> LateValues:
        """Copy the values now, deliver them later or never."""
        delay = self._random.uniform(0, 0.05)
        if self._random.random() < self._lost:
            self.never.add(len(self.calls))
            delay = math.inf
        values = _InTime({key: float(t.item()) for key, t in tensors.items()}, delay)
        self.calls.append(values)
        return values


class _InTime(LateValues):
    def __init__(self, values: dict[str, float], delay: float) -> None:
        super().__init__(values)
        self._due = time.monotonic() + delay

    def ready(self) -> bool:
        self.delivered = time.monotonic() >= self._due
        return self.delivered


@pytest.fixture
def late_device():
    """A device that answers when told to; hand it over as `snapshots={"cpu": ...}`."""
    return LateDevice()


@pytest.fixture(scope="session")
def jittery_device():
    """A class of devices that answer late, out of phase, or never."""
    return JitteryDevice
