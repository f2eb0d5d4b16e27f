"""Trains 25 steps under Transformers' trainer or ours, reporting to one service.

Usage: `python -m tests.vendors.reporting_trainer transformers|hotloop SERVICE PACKAGES OUTPUT`;
PACKAGES is the folder in which the service's clients are installed.
"""

import importlib
import sys

sys.path.append(sys.argv[3])  # last, so that everything else stays the interpreter's own

from bus import register_sink
from tests.vendors.trainer_parts import import_library, make_dataset, make_model

SINKS = {"dagshub": "sinks.dagshub:DagsHubSink", "azure_ml": "sinks.azureml:AzureMLSink"}


def main():
    """The same script for both."""
    library = import_library(sys.argv[1])
    service = sys.argv[2]
    register_sink(service, SINKS[service])
    arguments = library.TrainingArguments(
        output_dir=sys.argv[4],
        run_name="hf",
        report_to=[service],
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
    elif service == "azure_ml":  # its callback leaves what its client has queued
        importlib.import_module("azureml.core.run").Run.get_context().flush()


if __name__ == "__main__":
    main()
