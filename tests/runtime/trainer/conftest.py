"""What the tests of the trainer share."""

import os
from collections.abc import Iterator

import pytest
from filelock import FileLock

from bus.testing import ended_runs
from tests.runtime.trainer import rank_trials
from tests.runtime.trainer.launched import Launched


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """The runs that a test leaves open end with it, and not with their threads at the exit."""
    with ended_runs():
        yield


@pytest.fixture(scope="module", params=[2, 4])
def launched(request, tmp_path_factory):
    """All trials in as many processes, once for all workers of this test run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def launch(size, *others):
        folder = shared / f"ranks{size}"
        folder.mkdir(exist_ok=True)
        with FileLock(folder / "lock"):
            return Launched(folder, size, others)

    return launch(4) if request.param == 4 else launch(2, launch(4))


@pytest.fixture
def alone(launched, tmp_path):
    """What one process makes of a trial, which is the same each time."""

    def run(name):
        if name not in launched.alone:
            launched.alone[name] = rank_trials.run(name, tmp_path, launched.size)
        return launched.alone[name]

    return run
