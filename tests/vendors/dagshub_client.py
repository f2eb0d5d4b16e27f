"""Logs a run and uploads a folder with DagsHub's and MLflow's own clients, in their interpreter.

Usage: `dagshub_client.py HOST OWNER NAME FOLDER`.
"""

import math
import sys

import dagshub
import mlflow
from dagshub.upload import Repo


def main():
    """As a program does that trains for 25 steps; with a NaN, and a step that comes twice."""
    host, owner, name, folder = sys.argv[1:]
    dagshub.init(repo_owner=owner, repo_name=name, host=host)
    mlflow.set_experiment("vendors")
    with mlflow.start_run(run_name="theirs"):
        mlflow.log_params({"lr": 0.1, "model": {"layers": 2}})
        for step in range(1, 26):
            mlflow.log_metrics({"loss": 1 / step, "train/acc": step / 25}, step=step)
        mlflow.log_metrics({"loss": math.nan}, step=26)
        mlflow.log_metrics({"loss": 0.5}, step=3)
        mlflow.set_tags({"team": "nlp"})
    Repo(owner, name, branch="main").directory("artifacts").add_dir(folder)


if __name__ == "__main__":
    main()
