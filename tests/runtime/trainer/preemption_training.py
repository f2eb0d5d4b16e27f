"""One rank of the trainings that are preempted, or the only one; preemption_trials.py starts it.

A line of standard input is a `Job`, as JSON; see nursery.py.
"""

import importlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import torch

import runtime
from bus import Preempt
from runtime._world import World
from tests.runtime.trainer.nursery import serve
from tests.runtime.trainer.resume_parts import Model, Samples, outcome

STEPS: Final = 16
GRACE: Final = 60.0


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        folder: Where it trains, and goes on.
        compiled: Whether with a model that is compiled.
        environment: What a launcher sets.
        blocks_at: The step at which it lets the other ranks wait.
        tears_at: The step that fails while it is asked to leave.
    """

    folder: str
    compiled: bool
    environment: dict[str, str] = field(default_factory=dict)
    blocks_at: int | None = None
    tears_at: int | None = None


def outcome_file(folder: Path, rank: int) -> Path:
    """Where a rank writes down what its training has left behind."""
    return folder / f"outcome{rank}.json"


def say(what: str) -> None:
    """Tell the process that sends the signals."""
    os.write(1, f"{what}\n".encode())


class Telling(runtime.TrainerCallback):
    """Says where training is.

    Args:
        blocks_at: The step before which this rank lets the others wait in a collective.
    """

    reads_checkpoint = False

    def __init__(self, blocks_at: int | None) -> None:
        self._blocks_at = blocks_at

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Signals are caught from here on."""
        say("training")

    def on_step_begin(
        self,
        args: runtime.TrainingArguments,
        state: runtime.TrainerState,
        control: runtime.TrainerControl,
        **_: object,
    ) -> None:
        """The others may go on as far as they can without this rank."""
        del args, control
        if state.global_step == self._blocks_at:
            say("blocking")
            time.sleep(0.1)

    def on_step_end(self, *_: object, **__: object) -> None:
        """A safe point follows."""
        say("stepping")

    def on_prediction_step(self, *_: object, **__: object) -> None:
        """An evaluation goes on."""
        say("evaluating")

    def on_save(self, *_: object, **__: object) -> None:
        """It goes on behind training's back."""
        say("saving")

    def on_train_end(self, *_: object, **__: object) -> None:
        """Signals are nobody's from here on."""
        say("ending")


class Compiled(Model):
    """Without the notes, which cannot be compiled."""

    def forward(self, x, labels=None, index=None):
        """As its parent."""
        del index
        outputs = self.second(self.drop(torch.tanh(self.first(x)))).squeeze(-1)
        return {"loss": self.loss(outputs, labels), "logits": outputs}


class Tearing(runtime.Trainer):
    """Fails at a step, right after this rank was asked to leave, and before the others know.

    Attributes:
        tears_at: Which step; None for none.
    """

    tears_at: int | None = None

    def training_step(self, model, inputs, num_items_in_batch=None):
        """As its parent."""
        if self.state.global_step == self.tears_at:
            say("tearing")
            asked = Preempt(reason="test", deadline=time.time() + GRACE, signal="SIGTERM")
            self.run.control.request(asked)
            raise RuntimeError("a worker was terminated")
        return super().training_step(model, inputs, num_items_in_batch)


def compile_slowly(graph, _inputs):
    """A backend that says when it works."""
    say("compiling")
    time.sleep(0.01)
    return graph.forward


def train(line: str) -> None:
    """Train, or go on, and write down the outcome."""
    job = Job(**json.loads(line))
    path = Path(job.folder)
    os.environ.update(job.environment)
    rank = World.here().rank
    importlib.import_module("torch._dynamo").register_backend(compile_slowly, name="slow")
    arguments = runtime.TrainingArguments(
        job.folder,
        max_steps=STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=0.05,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=3,
        save_steps=4,
        use_cpu=True,
        disable_tqdm=True,
        grace_seconds=GRACE,
        torch_compile=job.compiled,
        torch_compile_backend="slow" if job.compiled else None,
    )
    trainer = Tearing(
        Compiled() if job.compiled else Model(),
        arguments,
        train_dataset=Samples(22),
        eval_dataset=Samples(40),
        callbacks=[Telling(job.blocks_at)],
    )
    trainer.tears_at = job.tears_at
    trainer.remove_callback(runtime.PrinterCallback)
    try:
        with trainer:
            trainer.train(resume_from_checkpoint=any(path.glob("checkpoint-*")))
    except runtime.Preempted as leaving:
        os._exit(cast("int", leaving.code))  # the process that forks knows no SystemExit
    outcome_file(path, rank).write_text(json.dumps(outcome(trainer)), encoding="utf-8")


if __name__ == "__main__":
    # Before the fork, not in each child: optimizers import it with their first step.
    importlib.import_module("torch._dynamo")
    assert runtime.Trainer
    serve(train)
