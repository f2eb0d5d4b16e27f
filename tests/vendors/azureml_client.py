"""Logs a run with azureml-mlflow, in its interpreter and in the environment of a job.

Usage: `azureml_client.py FILE`.
"""

import math
import sys

import mlflow


def main():
    """As a program does inside a job: with a NaN, and a file."""
    with mlflow.start_run():
        mlflow.log_params({"lr": 0.1})
        for step in range(1, 6):
            mlflow.log_metrics({"loss": 1 / step}, step=step, synchronous=True)
        mlflow.log_metrics({"loss": math.nan}, step=6, synchronous=True)
        mlflow.set_tags({"team": "nlp"})
        mlflow.log_artifact(sys.argv[1], "ckpts")


if __name__ == "__main__":
    main()
