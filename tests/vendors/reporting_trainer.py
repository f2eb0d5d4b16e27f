"""Trains 25 steps under Transformers' trainer or ours, reporting to DagsHub.

Usage: `python -m tests.vendors.dagshub_trainer transformers|hotloop PACKAGES OUTPUT`; PACKAGES is
the folder in which the clients of DagsHub and MLflow are installed.
"""

import importlib
import sys

sys.path.append(sys.argv[2])  # last, so that everything else stays the interpreter's own

from bus import register_sink
from tests.vendors.trainer_parts import make_dataset, make_model

LIBRARIES = {"transformers": "transformers", "hotloop": "runtime"}


def main():
    """The same script for both."""
    library = importlib.import_module(LIBRARIES[sys.argv[1]])
    register_sink("dagshub", "sinks.dagshub:DagsHubSink")
    arguments = library.TrainingArguments(
        output_dir=sys.argv[3],
        run_name="hf",
        report_to=["dagshub"],
        max_steps=25,
        logging_steps=5,
        save_steps=10,
        eval_strategy="steps",
        eval_steps=10,
        per_device_train_batch_size=4,
        seed=7,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = library.Trainer(
        make_model("classifier"),
        arguments,
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 12),
    )
    trainer.train()
    if hasattr(trainer, "close"):
        trainer.close()


if __name__ == "__main__":
    main()
