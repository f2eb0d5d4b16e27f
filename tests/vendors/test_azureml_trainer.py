"""Upstream's callback for Azure ML under its trainer, and our sink under ours, in the same job."""

import os

import pytest

from sinks.testing import self_signed
from tests.servers import azureml, azureml_history
from tests.vendors.programs import packages_of, train

PYTHON = os.environ.get("HOTLOOP_AZURECORE_PYTHON")
HF_PYTHON = os.environ.get("HOTLOOP_HF_PYTHON")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),  # the client takes many seconds to import on a busy machine
    pytest.mark.skipif(
        PYTHON is None or HF_PYTHON is None,
        reason="needs the azureml-core package and Transformers, under one version of Python: set "
        "HOTLOOP_AZURECORE_PYTHON and HOTLOOP_HF_PYTHON to interpreters with them",
    ),
]


def test_upstreams_callback_and_our_sink_leave_the_same_values(tmp_path):
    """One script under Transformers' trainer and ours, both with `report_to=["azure_ml"]`.

    Intended differences: ours come with their steps, and parameters beside them; upstream's come
    by azureml-core's own interface, without, and only because the script flushes them. Times that
    were measured differ.
    """
    packages = packages_of(PYTHON, tmp_path)

    def report(library, environment):
        folder = tmp_path / library
        told = {"folder": folder, "environment": environment, "packages": packages}
        train(HF_PYTHON, "azure_ml", library, **told)

    with azureml_history.StandIn() as theirs:
        report("transformers", theirs.environment())
    certificate = self_signed(tmp_path)
    with azureml.StandIn(certificate=certificate) as ours:
        job = {
            "MLFLOW_TRACKING_URI": ours.tracking_uri,
            "MLFLOW_TRACKING_TOKEN": azureml.TOKEN,
            "MLFLOW_EXPERIMENT_ID": ours.add_job(azureml_history.JOB),
            "MLFLOW_RUN_ID": azureml_history.JOB,
            "AZUREML_RUN_ID": azureml_history.JOB,
            "SSL_CERT_FILE": str(certificate),
        }
        report("hotloop", job)

    assert theirs.awaited == 1
    assert {key for key, *_ in ours.run.points} == theirs.series.keys()
    for key, expected in theirs.series.items():
        found = [value for _, value in ours.run.series(key)]
        if key.endswith(("_runtime", "_per_second")):
            assert len(found) == len(expected)
        else:
            assert found == pytest.approx(expected)
    assert [step for step, _ in ours.run.series("loss")] == [2, 4, 6, 8, 10]
    assert [step for step, _ in ours.run.series("eval_loss")] == [5, 10]
    assert ours.run.params["learning_rate"] == "5e-05"
