"""Upstream's callback for Azure ML under its trainer, and our sink under ours, in the same job."""

import os
import subprocess
from pathlib import Path

import pytest

from sinks.testing import self_signed
from tests.servers import azureml, azureml_history

PYTHON = os.environ.get("HOTLOOP_AZURECORE_PYTHON")
HF_PYTHON = os.environ.get("HOTLOOP_HF_PYTHON")
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),  # the client takes many seconds to import on a busy machine
    pytest.mark.skipif(
        PYTHON is None or HF_PYTHON is None,
        reason="needs the azureml-core package and Transformers, under one version of Python: set "
        "HOTLOOP_AZURECORE_PYTHON and HOTLOOP_HF_PYTHON to interpreters with them",
    ),
]


@pytest.fixture
def train(tmp_path):
    """Runs the script for one library, in the environment of a job, to its end."""
    kept = {name: each for name, each in os.environ.items() if not name.startswith("AZURE")}
    kept = {name: each for name, each in kept.items() if not name.startswith("MLFLOW_")}

    def run(*command, **variables):
        done = subprocess.run(  # noqa: S603 - our own programs
            command,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            timeout=150,
            env={**kept, "PYTHONWARNINGS": "ignore", "HOME": str(tmp_path), **variables},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    packages = run(PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")

    def train(library, **variables):
        program = ("-m", "tests.vendors.reporting_trainer", library, "azure_ml", packages)
        run(HF_PYTHON, *program, str(tmp_path / library), PYTHONPATH=str(ROOT), **variables)

    return train


def test_upstreams_callback_and_our_sink_leave_the_same_values(train, tmp_path):
    """One script under Transformers' trainer and ours, both with `report_to=["azure_ml"]`.

    Intended differences: ours come with their steps, and parameters beside them; upstream's come
    by azureml-core's own interface, without, and only because the script flushes them. Times that
    were measured differ.
    """
    with azureml_history.StandIn() as theirs:
        train("transformers", **theirs.environment())
    certificate = self_signed(tmp_path)
    ours = azureml.StandIn()
    ours.secure(certificate)
    with ours:
        train(
            "hotloop",
            MLFLOW_TRACKING_URI=ours.tracking_uri,
            MLFLOW_TRACKING_TOKEN=azureml.TOKEN,
            MLFLOW_EXPERIMENT_ID=ours.add_job(azureml_history.JOB),
            MLFLOW_RUN_ID=azureml_history.JOB,
            AZUREML_RUN_ID=azureml_history.JOB,
            SSL_CERT_FILE=str(certificate),
        )

    assert theirs.awaited == 1
    assert {key for key, *_ in ours.run.points} == theirs.series.keys()
    for key, expected in theirs.series.items():
        found = [value for _, value in ours.run.series(key)]
        if key.endswith(("_runtime", "_per_second")):
            assert len(found) == len(expected)
        else:
            assert found == pytest.approx(expected)
    assert [step for step, _ in ours.run.series("loss")] == [5, 10, 15, 20, 25]
    assert [step for step, _ in ours.run.series("eval_loss")] == [10, 20, 25]
    assert ours.run.params["learning_rate"] == "5e-05"
