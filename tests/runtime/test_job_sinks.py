"""Which sinks a trainer adds unasked, for the platform that runs its job."""

import pytest

from bus import SINKS
from runtime._destinations import job_sinks
from sinks.jsonl import JsonlSink
from sinks.kubeflow import KubeflowSink
from tests.nobody import clear_environment


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A TrainJob's environment."""
    clear_environment(monkeypatch, tmp_path)
    SINKS.register("kubeflow", KubeflowSink)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "https://controller.example.org")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
    return monkeypatch


def test_kubeflows_inside_a_trainjob(job):
    """Beside others, once; nowhere else."""
    (added,) = job_sinks([JsonlSink()])
    assert isinstance(added, KubeflowSink)
    assert job_sinks([added]) == []
    job.delenv("KUBEFLOW_TRAINER_SERVER_URL")
    assert job_sinks([]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("DISABLE_KUBEFLOW_INTEGRATION", "TRUE"), ("KUBEFLOW_TRAINER_SERVER_URL", "nowhere")],
)
def test_settings_that_leave_it_out(job, caplog, name, value):
    """The training begins nevertheless, and the log says why it is not there."""
    job.setenv(name, value)

    assert job_sinks([]) == []
    assert "not reporting to kubeflow" in caplog.text
