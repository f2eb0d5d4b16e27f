"""Trains inside a Flyte task, by Transformers' trainer and by ours, and shows what Flyte has then.

Usage: `python -m tests.vendors.flyte_task`, in an empty folder, under an interpreter with flytekit,
Transformers and what ours needs.
"""

import contextlib
import json
from pathlib import Path

from flytekit import current_context, task, workflow

from bus import SINKS, NotConfiguredError, register_sink
from sinks.flyte import FlyteSink
from tests.vendors.reporting import ARGUMENTS
from tests.vendors.trainer_parts import import_library, make_dataset, make_model


@task(enable_deck=True)
def train(library: str) -> str:
    """Train; which files the task's checkpoint has then, its deck, and the sinks of "all"."""
    module = import_library(library)
    trainer = module.Trainer(
        make_model("classifier"),
        module.TrainingArguments(**{**ARGUMENTS, "report_to": ["flyte"]}),
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 20),
    )
    trainer.train()
    if library == "hotloop":
        trainer.close()
    context = current_context()
    # No method of a checkpoint says where it is; a retry of the task is told by the platform.
    folder = Path(context.checkpoint._checkpoint_dest)
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    decks = {deck.name: deck.html for deck in context.decks}
    taken = [sink.name for sink in SINKS.make("all")[0]]
    return json.dumps({"files": files, "deck": decks.get("Log History", ""), "all": taken})


@workflow
def pipeline(library: str) -> str:
    """The task as a part of a workflow."""
    return train(library=library)


register_sink("flyte", "sinks.flyte:FlyteSink")


if __name__ == "__main__":
    try:
        FlyteSink()
    except NotConfiguredError as error:
        found = {"outside": str(error)}
    for name in ("transformers", "hotloop"):
        Path(name).mkdir()
        with contextlib.chdir(name):
            found[name] = json.loads(pipeline(library=name))
    print(json.dumps(found))  # noqa: T201 - the answer
