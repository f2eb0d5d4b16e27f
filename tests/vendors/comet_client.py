"""Writes and reads experiments with Comet's own client, in an interpreter that has it.

Usage: `comet_client.py write|read` with what it is told as JSON on standard input; prints
JSON. Where Comet is stands in the environment.
"""

import json
import sys

import comet_ml
from comet_ml.api import API


def write(calls):
    """Start an experiment, make calls of it by name, and end it as each says."""
    config = comet_ml.ExperimentConfig(
        auto_metric_logging=False,
        auto_output_logging=False,
        log_code=False,
        log_git_metadata=False,
        log_git_patch=False,
        log_env_details=False,
        log_graph=False,
    )
    experiment = comet_ml.start(project_name="tests", experiment_config=config)
    for method, arguments in calls:
        getattr(experiment, method)(**arguments)
    experiment.end()
    return experiment.get_key()


def read(key):
    """What the client's reader finds of an experiment."""
    experiment = API().get_experiment_by_key(key)
    assets = experiment.get_asset_list()
    return {
        "state": experiment.get_state(),
        "name": experiment.get_name(),
        "tags": experiment.get_tags(),
        "params": _values(experiment.get_parameters_summary()),
        "others": _values(experiment.get_others_summary()),
        "points": [
            [each["metricName"], each["step"], each["epoch"], each["metricValue"]]
            for each in experiment.get_metrics()
        ],
        "output": experiment.get_output(),
        "models": experiment.get_model_names(),
        "files": {
            each["fileName"]: experiment.get_asset(each["assetId"]).decode("latin-1")
            for each in assets
        },
    }


def _values(summaries):
    return {each["name"]: each["valueCurrent"] for each in summaries}


def main():
    """Do what the argument says."""
    answer = {"write": write, "read": read}[sys.argv[1]](json.load(sys.stdin))
    running = comet_ml.get_running_experiment()
    if running is not None:
        running.end()
    sys.stdout.write("\nANSWER " + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
