"""Trains a small model and reports to W&B: `wandb_trainer_script.py transformers|hotloop`.

Transformers' trainer does it with its callback and W&B's own client, ours with the sink. Settings
come from the environment.
"""

import sys

from tests.vendors.trainer_parts import import_library, make_dataset, make_model


def main():
    """Train once."""
    (name,) = sys.argv[1:]
    library = import_library(name)
    if name == "transformers":
        report = {"report_to": ["wandb"]}
        given = {}
    else:
        from sinks.wandb import WandbSink  # noqa: PLC0415 - ours need not be there for upstream's

        report = {"report_to": "none"}
        given = {"sinks": [WandbSink()]}
    arguments = library.TrainingArguments(
        output_dir="out",
        use_cpu=True,
        max_steps=8,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
        per_device_train_batch_size=4,
        disable_tqdm=True,
        seed=1,
        **report,
    )
    trainer = library.Trainer(
        make_model("classifier"),
        arguments,
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 20),
        **given,
    )
    trainer.train()
    trainer.log({"eval_done": 1.0})


if __name__ == "__main__":
    main()
