"""SIGKILL at random moments while a tracker is delivered to, and resumes at earlier steps."""

import os

import pytest

from tests.sinks.tracker_kills import TRACKERS, run_tracker_kills


@pytest.fixture(autouse=True)
def _of_nobody(monkeypatch, tmp_path):
    """Without the settings of whoever runs the tests."""
    prefixes = ("AZURE", "CLEARML_", "COMET_", "DAGSHUB_", "MLFLOW_", "NEPTUNE_", "WANDB_")
    for name in [each for each in os.environ if each.startswith(prefixes)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "victim"),
    [(name, ("trainer", "delivery")[number % 2]) for number, name in enumerate(TRACKERS)],
)
def test_every_point_is_there(tracker, victim):
    """None is lost, and none is there twice where that is promised, in one remote run."""
    trials = run_tracker_kills(tracker, 3, int.from_bytes(os.urandom(3), "big"), victim)

    assert trials.failures == []
    assert trials.kills == 3
