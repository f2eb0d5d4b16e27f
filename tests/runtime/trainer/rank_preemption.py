"""Trains as one of several ranks under torchrun, of which one is sent SIGTERM; then goes on.

    rank_preemption.py FOLDER STEP

The first launch trains undisturbed in FOLDER/whole, then in FOLDER/broken until the last rank gets
its signal at a step; the workers that torchrun starts again go on there. The first rank writes down
both outcomes.
"""

import json
import os
import signal
import sys
from pathlib import Path

import runtime
from runtime._world import World
from tests.runtime.trainer.preemption_training import Compiled
from tests.runtime.trainer.resume_parts import Samples, outcome


class Signals(runtime.TrainerCallback):
    """Sends this process SIGTERM at a step.

    Args:
        step: Which step.
    """

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self,
        args: runtime.TrainingArguments,
        state: runtime.TrainerState,
        control: runtime.TrainerControl,
        **_: object,
    ) -> None:
        """Signal this rank alone."""
        del args, control
        if state.global_step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder: Path, *, step: int | None) -> None:
    """Train in a folder, or go on there, and write down the outcome."""
    arguments = runtime.TrainingArguments(
        str(folder),
        max_steps=200,
        per_device_train_batch_size=2,
        logging_steps=3,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=1000,
        use_cpu=True,
        disable_tqdm=True,
        grace_seconds=60,
    )
    callbacks = [Signals(step)] if step is not None else []
    data = {"train_dataset": Samples(50), "eval_dataset": Samples(9)}
    with runtime.Trainer(Compiled(), arguments, callbacks=callbacks, **data) as trainer:
        trainer.remove_callback(runtime.PrinterCallback)
        trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    if World.here().rank == 0:
        text = json.dumps(outcome(trainer))
        folder.with_suffix(".json").write_text(text, encoding="utf-8")


def main(folder: Path, step: int) -> None:
    """One of the two launches."""
    world = World.here()
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        train(folder / "whole", step=None)
        train(folder / "broken", step=step if world.rank == world.size - 1 else None)
    else:
        train(folder / "broken", step=None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
