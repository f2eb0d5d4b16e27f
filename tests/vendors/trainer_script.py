"""Trains small models under Transformers' trainer or ours, and tells what happened.

Usage: `python -m tests.vendors.trainer_script transformers|hotloop`. Each line of standard input
is a JSON object, one training (see `Training`), answered by a line of JSON (see `train`). A process
serves many: importing the libraries takes longer than all of them. Only names that both have are
used.
"""

import contextlib
import gc
import json
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tests.vendors.trainer_parts import import_library, make_dataset, make_model
from tests.vendors.trainer_recorder import (
    Notes,
    describe_checkpoints,
    describe_state,
    describe_weights,
    make_recorder,
    plain,
)

OUTPUT = "out"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training.

    Attributes:
        folder: Where it runs; checkpoints are in its `out`.
        arguments: Of `TrainingArguments`.
        model: A name of `trainer_parts.MODELS`.
        train: Kind and sizes for `make_dataset`.
        eval: The same for what is evaluated, or several by name.
        metrics: Whether a `compute_metrics` is given: accuracy and a score that peaks early.
        early_stopping: Arguments of an `EarlyStoppingCallback`.
        wishes: What to do in which hook; see `Notes`.
        without: Classes of callbacks to remove after construction.
        resume: True, or the name of a checkpoint.
        after: Methods to call after training: `evaluate`, `predict`, `train`.
        before: The same before training.
        plain_loader: Whether the trainer's own loader of training data is replaced by torch's.
        tokens: Whether samples are texts for a language model.
    """

    folder: str
    arguments: dict[str, Any] = field(default_factory=dict)
    model: str = "classifier"
    train: list[Any] = field(default_factory=lambda: ["map", 40])
    eval: Any = None
    metrics: bool = False
    early_stopping: dict[str, Any] | None = None
    wishes: list[dict[str, Any]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    resume: bool | str | None = None
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    plain_loader: bool = False
    tokens: bool = False

    def dataset(self, description: Any) -> Any:
        """A data set, several by name, or none."""
        if isinstance(description, dict):
            return {name: self.dataset(each) for name, each in description.items()}
        return description and make_dataset(*description, tokens=self.tokens)


def make_metrics() -> Any:
    """Accuracy, and a score that rises for two evaluations and then falls."""
    calls = 0

    def compute(prediction: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        guesses = prediction.predictions.argmax(-1)
        accuracy = float((guesses == prediction.label_ids).mean())
        return {"accuracy": accuracy, "peak": -abs(calls - 2.0)}

    return compute


def make_trainer(library: Any, training: Training, notes: Notes) -> Any:
    """A trainer with the recorder among its callbacks."""

    class Trainer(library.Trainer):  # type: ignore[misc, name-defined]  # whichever library's
        """With torch's loader, which neither library has touched."""

        def get_train_dataloader(self) -> Any:
            if not training.plain_loader:
                return super().get_train_dataloader()
            return DataLoader(self.train_dataset, batch_size=self.args.train_batch_size)

    callbacks = [make_recorder(library, notes)]
    if training.early_stopping is not None:
        callbacks.append(library.EarlyStoppingCallback(**training.early_stopping))
    # Absolute, because a run that a failed constructor leaves open ends elsewhere.
    output = str(Path(OUTPUT).absolute())
    given = {"output_dir": output, "report_to": "none", "use_cpu": True, "disable_tqdm": False}
    trainer = Trainer(
        make_model(training.model),
        library.TrainingArguments(**{**given, **training.arguments}),
        train_dataset=training.dataset(training.train),
        eval_dataset=training.dataset(training.eval),
        compute_metrics=make_metrics() if training.metrics else None,
        callbacks=callbacks,
    )
    for name in training.without:
        trainer.remove_callback(getattr(library, name))
    return trainer


def call(trainer: Any, training: Training, method: str) -> Any:
    """Call a method; what it returned, as JSON knows it."""
    if method == "evaluate":
        return plain(trainer.evaluate())
    if method == "predict":
        result = trainer.predict(training.dataset(training.eval))
        rows = [float(row.sum()) for row in result.predictions]
        return {"metrics": plain(result.metrics), "rows": rows, "labels": result.label_ids.tolist()}
    resume = training.resume
    where = f"{OUTPUT}/{resume}" if isinstance(resume, str) else resume
    output = trainer.train(resume_from_checkpoint=where)
    return {
        "global_step": output.global_step,
        "training_loss": float(output.training_loss),
        "metrics": plain(output.metrics),
    }


def train(library: Any, training: Training) -> dict[str, Any]:
    """Train, and tell what happened; an error of the training is part of it."""
    notes = Notes(training.wishes)
    result: dict[str, Any] = {"error": None, "returned": []}
    trainer = None
    try:
        trainer = make_trainer(library, training, notes)
        for method in (*training.before, "train", *training.after):
            result["returned"].append([method, call(trainer, training, method)])
    except Exception as error:  # noqa: BLE001 - errors are compared too
        kinds = [each.__name__ for each in type(error).__mro__]
        result["error"] = {"kinds": kinds, "message": str(error)}
    if hasattr(trainer, "close"):  # ours writes and deletes files beside training, until then
        trainer.close()
    result |= {
        "hooks": notes.hooks,
        "keywords": notes.seen,
        "logs": notes.logs,
        "metrics": notes.metrics,
        "learning_rates": notes.rates,
        "gradients": notes.gradients,
        "checkpoints": describe_checkpoints(Path(OUTPUT)),
    }
    if trainer is not None:
        model = trainer.model
        result |= {
            "callbacks": [type(each).__name__ for each in trainer.callback_handler.callbacks],
            "history": [plain(entry) for entry in trainer.state.log_history],
            "state": describe_state(trainer.state),
            "samples": getattr(model, "trained", []),
            "losses": getattr(model, "losses", []),
            "weights": describe_weights(model),
        }
    return result


def answer(library: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Train in the folder of a request, with nothing printed."""
    training = Training(**request)
    Path(training.folder).mkdir(parents=True, exist_ok=True)
    with (
        contextlib.chdir(training.folder),
        Path("printed.txt").open("a", encoding="utf-8") as printed,
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # what each library warns of is its own affair
        return train(library, training)


def main() -> None:
    """Answer requests until there are no more."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    torch.set_num_threads(1)
    library = import_library(sys.argv[1])
    assert library.Trainer  # is imported when it is asked for
    # Transformers collects garbage in each training: half a second for the modules alone.
    gc.collect()
    gc.freeze()
    out = sys.stdout
    for line in sys.stdin:
        out.write(json.dumps(answer(library, json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
