"""A run with W&B's own client, in an interpreter that has it: `wandb_script.py FOLDER [PART]`.

What it logs is what `tests/vendors/test_wandb.py` logs with ours.
"""

import math
import sys
from pathlib import Path

import wandb


def main():
    """Log a run, or go on with it."""
    folder, *parts = sys.argv[1:]
    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
    if parts:
        run = wandb.init(project="p", id="sdk", resume="must", settings=settings)
        run.log({"loss": 9.0, "train/global_step": 9})
        run.finish()
        return
    run = wandb.init(
        project="p",
        id="sdk",
        name="a-run",
        notes="a note",
        tags=["a", "b"],
        group="g",
        job_type="j",
        config={"lr": 0.1, "model": {"layers": 2}},
        settings=settings,
    )
    run.define_metric("train/global_step")
    run.define_metric("*", step_metric="train/global_step", step_sync=True)
    for step in range(5):
        values = {"loss": 1.0 / (step + 1), "nan": math.nan, "train/global_step": step}
        run.log(values)
    run.log({"text": "a text", "train/global_step": 4})
    histogram = wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0]))
    run.log({"grads": histogram, "train/global_step": 4})
    picture = wandb.Image(str(Path(folder, "a.png")), caption="c")
    run.log({"img": picture, "train/global_step": 4})
    run.config.update({"later": 1})
    run.summary["best"] = 0.2
    run.alert("an alert", "its text", level=wandb.AlertLevel.WARN)
    artifact = wandb.Artifact("data", type="dataset", metadata={"rows": 1})
    artifact.add_dir(str(Path(folder, "data")))
    run.log_artifact(artifact, aliases=["latest", "v"])
    run.finish()


if __name__ == "__main__":
    main()
