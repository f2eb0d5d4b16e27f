"""Trains one small model with `report_to="clearml"`, under Transformers' trainer or ours.

Usage: `python -m tests.vendors.clearml_trainer transformers|hotloop FOLDER`, with the server in the
environment, under an interpreter with Transformers, ClearML's package and what ours needs.
"""

import sys

from bus import register_sink
from tests.vendors.trainer_parts import import_library, make_dataset, make_model


def train(name: str, folder: str) -> None:
    """Train 25 steps, evaluating and saving after each tenth."""
    if name == "hotloop":
        register_sink("clearml", "sinks.clearml:ClearmlSink")
    library = import_library(name)
    arguments = library.TrainingArguments(
        output_dir=folder,
        report_to="clearml",
        run_name="same",
        use_cpu=True,
        disable_tqdm=True,
        max_steps=25,
        per_device_train_batch_size=4,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_steps=10,
    )
    trainer = library.Trainer(
        make_model("classifier"),
        arguments,
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 8),
    )
    trainer.train()
    if name == "hotloop":
        trainer.close()


if __name__ == "__main__":
    train(*sys.argv[1:])
