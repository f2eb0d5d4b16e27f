"""One small training, by Transformers' trainer or by ours, that reports to a tracker.

Usage: `python -m tests.vendors.reporting SERVICE transformers|hotloop PACKAGES`, in an empty
folder, with the server in the environment, under an interpreter with Transformers and what ours
needs. The service's own client is there too, or in the folder PACKAGES.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bus import register_sink
from tests.vendors.neptune_client import QUIET
from tests.vendors.trainer_parts import import_library, make_dataset, make_model

ARGUMENTS: Mapping[str, Any] = {
    "output_dir": "out",
    "run_name": "same",
    "max_steps": 10,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_steps": 5,
    "per_device_train_batch_size": 4,
    "seed": 7,
    "use_cpu": True,
    "disable_tqdm": True,
}


@dataclass(frozen=True, slots=True)
class Service:
    """How a training reports to one.

    Attributes:
        name: Ours for it.
        sink: Our sink.
        arguments: Of the training, beside those of all.
        reporting: What a trainer of that library is given, where `report_to` cannot say it all.
        after: What is done when the training is over.
    """

    name: str
    sink: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reporting: Callable[[str], Mapping[str, Any]] = lambda _library: {}
    after: Callable[[Any], object] = lambda _trainer: None


def neptune(library: str) -> Mapping[str, Any]:
    """Which checkpoints are uploaded, and that the client captures nothing."""
    told = {"project": "team/demo", "name": "training", "tags": ["hf"], "log_checkpoints": "best"}
    if library == "transformers":
        callback = importlib.import_module("transformers.integrations").NeptuneCallback
        return {"callbacks": [callback(**told, **QUIET)]}
    return {"sinks": [importlib.import_module("sinks.neptune").NeptuneSink(**told)]}


def begin_swanlab(library: str) -> Mapping[str, Any]:
    """The run that upstream's callback asks for, where SwanLab 0.10 raises if there is none."""
    if library == "transformers":
        importlib.import_module("swanlab").init(experiment_name="same", project="demo")
    return {}


def flush_azure(_trainer: Any) -> None:
    """Send what upstream's callback leaves queued in its client, which ours does not import."""
    if (core := sys.modules.get("azureml.core.run")) is not None:
        core.Run.get_context().flush()


SERVICES = {
    "azure_ml": Service("azure_ml", "sinks.azureml:AzureMLSink", after=flush_azure),
    "clearml": Service("clearml", "sinks.clearml:ClearmlSink"),
    "comet_ml": Service(
        "comet", "sinks.comet:CometSink", after=lambda each: each.predict(make_dataset("map", 8))
    ),
    "dagshub": Service("dagshub", "sinks.dagshub:DagsHubSink"),
    "dvclive": Service(
        "dvclive",
        "sinks.dvclive:DvcliveSink",
        arguments={
            "project": "demo",
            "report_to": ["codecarbon", "dvclive", "kubeflow", "swanlab", "trackio"],
        },
        reporting=begin_swanlab,
    ),
    "neptune": Service(
        "neptune",
        "sinks.neptune:NeptuneSink",
        arguments={"report_to": "none", "load_best_model_at_end": True},
        reporting=neptune,
        after=lambda each: each.evaluate(),
    ),
    "wandb": Service(
        "wandb",
        "sinks.wandb:WandbSink",
        arguments={"run_name": None},  # upstream calls the model after the run if it has a name
        after=lambda each: each.log({"eval_done": 1.0}),
    ),
}


def main(name: str, library: str, packages: str) -> None:
    """Train, and report until all is there."""
    if packages:
        sys.path.append(packages)  # last, so that everything else stays the interpreter's own
    if (name, library) == ("comet_ml", "transformers"):
        importlib.import_module(name)  # before the trainers, which are imported without it
    service = SERVICES[name]
    register_sink(service.name, service.sink)
    module = import_library(library)
    arguments = {**ARGUMENTS, "report_to": [name], **service.arguments}
    trainer = module.Trainer(
        make_model("classifier"),
        module.TrainingArguments(**arguments),
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 20),
        **service.reporting(library),
    )
    trainer.train()
    service.after(trainer)
    if library == "hotloop":
        trainer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
