"""Logs with MLflow's own client, as a training loop does; run in an interpreter that has it.

Usage: `_mlflow_client.py URL MODE CALLS`; prints the run's id and the seconds that it took.
"""

import json
import sys
import time

import mlflow

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "epoch")


def main() -> None:
    """Log so many times five metrics, and wait until the server has them."""
    url, mode, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    mlflow.set_tracking_uri(url)
    with mlflow.start_run() as run:
        mlflow.log_metrics(dict.fromkeys(NAMES, 0.0), step=0)  # threads and connections exist
        started = time.perf_counter()
        for step in range(1, calls + 1):
            values = {name: step + index / 8 for index, name in enumerate(NAMES)}
            mlflow.log_metrics(values, step=step, synchronous=mode == "synchronous")
        looped = time.perf_counter() - started
        if mode != "synchronous":
            mlflow.flush_async_logging()
        seconds = time.perf_counter() - started
    print(json.dumps({"run_id": run.info.run_id, "seconds": seconds, "loop": looped}))


if __name__ == "__main__":
    main()
