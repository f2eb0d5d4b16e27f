"""Trains a small model and reports to Neptune: with Transformers' callback, or with our sink.

Usage: `python -m tests.vendors.neptune_training transformers|hotloop`, in an empty folder. The
server is the one of NEPTUNE_API_TOKEN. The interpreter has Transformers, Neptune's client, and this
library's dependencies.
"""

import os
import sys
import warnings
from typing import Any

import torch

from tests.vendors.neptune_client import QUIET
from tests.vendors.trainer_parts import import_library, make_dataset, make_model

REPORTED: dict[str, Any] = {"project": "team/demo", "name": "training", "tags": ["hf"]}
ARGUMENTS: dict[str, Any] = {
    "output_dir": "out",
    "use_cpu": True,
    "report_to": "none",
    "max_steps": 10,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 5,
    "load_best_model_at_end": True,
    "per_device_train_batch_size": 4,
    "disable_tqdm": True,
    "seed": 7,
}


def make_trainer(name: str) -> Any:
    """A trainer of either library, which reports to Neptune."""
    library = import_library(name)
    if name == "transformers":
        from transformers.integrations import (  # noqa: PLC0415 - there is none where the tests run
            NeptuneCallback,
        )

        callback = NeptuneCallback(log_checkpoints="best", **REPORTED, **QUIET)
        reporting = {"callbacks": [callback]}
    else:
        from sinks.neptune import NeptuneSink  # noqa: PLC0415 - its settings are read here

        reporting = {"sinks": [NeptuneSink(log_checkpoints="best", **REPORTED)]}
    return library.Trainer(
        make_model("classifier"),
        library.TrainingArguments(**ARGUMENTS),
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 20),
        **reporting,
    )


def main() -> None:
    """Train, evaluate once more, and report until all is there."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    warnings.simplefilter("ignore")  # what each library warns of is its own affair
    torch.set_num_threads(1)
    trainer = make_trainer(sys.argv[1])
    trainer.train()
    trainer.evaluate()
    if hasattr(trainer, "close"):
        trainer.close()


if __name__ == "__main__":
    main()
