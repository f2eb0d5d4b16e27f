"""SIGKILL while DagsHub or Azure ML are delivered to, and resumes at earlier steps."""

import os

import pytest

from tests.sinks.tracking_kills import run_kills

COUNT = int(os.environ.get("HOTLOOP_KILLS", "3"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
@pytest.mark.parametrize("service", ["dagshub", "azure_ml"])
def test_every_point_is_there_once_although_the_sender_is_killed(service, monkeypatch):
    """None is lost and none is twice in one remote run, on a server that recognises a repeat."""
    for name in ("MLFLOW_RUN_ID", "AZUREML_RUN_ID", "MLFLOW_TRACKING_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    trials = run_kills(service, COUNT, 20261121, "trainer")

    assert trials.failures == []
    assert trials.kills >= COUNT
