"""Comet's offline experiment: messages to a file, a zip archive at the end."""

import json
import zipfile
from pathlib import Path

from comet_ml import OfflineExperiment

from benchmarks.peers._records import Session


def open_offline(folder: Path) -> Session:
    """Open an experiment with every kind of automatic capture off."""
    experiment = OfflineExperiment(
        project_name="peers",
        offline_directory=str(folder),
        auto_metric_logging=False,
        auto_output_logging=None,
        auto_param_logging=False,
        display_summary_level=0,
        log_code=False,
        log_env_cpu=False,
        log_env_details=False,
        log_env_disk=False,
        log_env_gpu=False,
        log_env_host=False,
        log_env_network=False,
        log_git_metadata=False,
        log_git_patch=False,
        log_graph=False,
        parse_args=False,
    )

    def log(scalars: dict[str, float], step: int, /) -> None:
        experiment.log_metrics(scalars, step=step)

    return Session(log=log, close=experiment.end, kept=lambda: _steps(folder))


def _steps(folder: Path) -> int:
    lines: list[bytes] = []
    for archive in folder.glob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            lines += opened.read("messages.json").splitlines()
    metrics = [json.loads(line)["payload"]["metric"] for line in lines if b'"metric_msg"' in line]
    return len({metric["step"] for metric in metrics if metric["metricName"] == "loss"})
