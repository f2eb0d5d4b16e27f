"""Reads runs with MLflow's own client, in an interpreter that has it; prints JSON.

Usage: `mlflow_reader.py URL run RUN_ID | runs | call METHOD ARGUMENT...`.
"""

import json
import sys

from mlflow import MlflowClient


def describe(client, run_id):
    """Everything there is of a run; values of metrics as text, so that NaN survives."""
    run = client.get_run(run_id)

    def files(path=None):
        for each in client.list_artifacts(run_id, path):
            if each.is_dir:
                yield from files(each.path)
            else:
                yield [each.path, each.file_size]

    return {
        "run_id": run_id,
        "name": run.info.run_name,
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "status": run.info.status,
        "start": run.info.start_time,
        "end": run.info.end_time,
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            key: [
                [point.step, str(point.value), point.timestamp]
                for point in client.get_metric_history(run_id, key)
            ]
            for key in list(run.data.metrics)[:100]  # each is a request of 50 ms
        },
        "latest": run.data.metrics,
        "files": sorted(files()),
    }


def main():
    """Do what the arguments say."""
    url, what, *arguments = sys.argv[1:]
    client = MlflowClient(url)
    if what == "run":
        answer = describe(client, arguments[0])
    elif what == "runs":
        experiments = [each.experiment_id for each in client.search_experiments()]
        answer = [
            {"run_id": run.info.run_id, "name": run.info.run_name, "status": run.info.status}
            for run in client.search_runs(experiments)
        ]
    else:
        method, *rest = arguments
        answer = getattr(client, method)(*rest)
        answer = answer if isinstance(answer, str) else None
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
