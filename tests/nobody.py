"""Tests run as nobody: what whoever runs them has set for a tracker is not there."""

import os

PREFIXES = (
    *("AZURE", "CLEARML_", "COMET_", "DAGSHUB_", "HF_DAGSHUB_", "HF_MLFLOW_", "HOTLOOP_COMET_"),
    *("CODECARBON_", "DVC", "FLYTE", "HF_DVCLIVE_", "HOTLOOP_WANDB_", "KUBEFLOW_", "MLFLOW_"),
    *("HOTLOOP_SWANLAB_", "NEPTUNE_", "PUSHGATEWAY_", "SWANLAB_", "TRACKIO_", "TRAINS_", "WANDB_"),
)
OTHERS = frozenset(
    {
        "BRANCH",
        "DISABLE_KUBEFLOW_INTEGRATION",
        "DISABLE_MLFLOW_INTEGRATION",
        "NETRC",
        "XDG_CACHE_HOME",
    }
)


def settings():
    """Names of variables of this process that tell a tracker's client something."""
    return [name for name in os.environ if name.startswith(PREFIXES) or name in OTHERS]


def clear_environment(monkeypatch, home):
    """Take them away; the home is a folder without the clients' files."""
    for name in settings():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_DIR", str(home))  # else W&B's settings of the working folder count
