"""However often a training is preempted, it ends as one that was not, and in the same run."""

import json
import os
import random
from pathlib import Path

import pytest

from bus import RunInfo
from tests.runtime.trainer import rank_preemption
from tests.runtime.trainer.preemption_trials import run_preemptions
from tests.runtime.trainer.resume_parts import differences
from tests.waiting import HANG

ROOT = Path(__file__).resolve().parents[3]

PREEMPTIONS = 6 * int(os.environ.get("HOTLOOP_SOAK", "1"))


def seed() -> int:
    """Another one each time; failures name it."""
    return int.from_bytes(os.urandom(3), "big")


@pytest.mark.slow
def test_signals():
    """At random moments, inside evaluations, saves and compilations too, some several times."""
    assert run_preemptions(PREEMPTIONS, seed())[1] == []


@pytest.mark.slow
def test_one_of_two_ranks(interpreter, tmp_path):
    """All leave at one step with a whole checkpoint; the workers that torchrun starts go on."""
    step = random.randrange(2, 100)  # noqa: S311 - no secret
    command = ["-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "1"]
    done = interpreter.run(
        [*command, rank_preemption.__file__, tmp_path, step],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=6 * HANG,
    )
    assert done.code == 0, (step, done)
    whole, broken = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "broken")
    )
    assert differences(whole, broken) == [], step
    (run,) = (tmp_path / "broken" / "runs").iterdir()
    outcomes = [each.outcome for each in RunInfo.load(run).attempts]
    assert outcomes == ["preempted", "finished"], step
