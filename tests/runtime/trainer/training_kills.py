"""Kills trainings at random moments, resumes them, and says what is not as in an unbroken one.

`run_kill_trials(kills, seed)` is for tests and the soak benchmark.

A trial: a process trains; it is killed at any moment of its life, or while a checkpoint is being
written; another one resumes, and may be killed too, until one reaches the end. Then weights,
optimizer, generators and logged values are those of a training that nobody killed. Whenever one is
killed, the newest checkpoint that its journal reports, or a later one, is there and whole."""

import contextlib
import importlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import runtime
from bus import CheckpointSaved, JournalReader
from runtime._checkpoint_files import checkpoint_step
from runtime._checkpoint_load import last_good_checkpoint
from tests.runtime.trainer.nursery import Nursery, serve, started
from tests.runtime.trainer.resume_parts import Model, Samples, differences, outcome

STEPS: Final = 24
SAVE_STEPS: Final = 3
OUTCOME: Final = "outcome.json"


class TellSaving(runtime.TrainerCallback):
    """Says on standard output when a checkpoint begins to be written."""

    reads_checkpoint = False

    def on_save(self, *_: object, **__: object) -> None:
        """It goes on behind training's back."""
        os.write(1, b"saving\n")


def train(folder: str) -> None:
    """Train, or go on, and write down the outcome."""
    path = Path(folder)
    arguments = runtime.TrainingArguments(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=0.05,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=5,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        use_cpu=True,
        disable_tqdm=True,
    )
    data, callbacks = Samples(22), [TellSaving()]
    trainer = runtime.Trainer(
        Model(), arguments, train_dataset=data, eval_dataset=Samples(3), callbacks=callbacks
    )
    trainer.remove_callback(runtime.PrinterCallback)
    with trainer:
        trainer.train(resume_from_checkpoint=any(path.glob("checkpoint-*")))
    (path / OUTCOME).write_text(json.dumps(outcome(trainer)), encoding="utf-8")


class Trials:
    """Trainings that are killed, and one that was not.

    Args:
        nursery: What starts them.
        parent: The folder of their folders.
        chance: Decides the moments.

    Attributes:
        kills: How many processes were killed before they had ended.
        failures: What was not as promised.
    """

    def __init__(self, nursery: Nursery, parent: Path, chance: random.Random) -> None:
        self.kills = 0
        self.failures: list[str] = []
        self._nursery, self._parent, self._chance = nursery, parent, chance
        assert self._process(parent / "whole", None) == "ended 0"
        began = time.monotonic()  # the first one has warmed up the machine
        assert self._process(parent / "again", None) == "ended 0"
        self._lifetime = time.monotonic() - began
        self._whole = read(parent / "whole")
        self.failures += differences(self._whole, read(parent / "again"))

    def trial(self, number: int, most: int) -> None:
        """Train once, killed at most so many times on the way."""
        folder = self._parent / str(number)
        killed = 0
        while self._process(folder, self._moment() if killed < most else None) == "ended -9":
            killed += 1
            self.failures += [f"trial {number}: {each}" for each in wrong_after_a_kill(folder)]
            if self._chance.random() < 0.5:
                most = killed
        self.kills += killed
        if not (folder / OUTCOME).is_file():
            self.failures.append(f"trial {number}: it did not get to the end")
        else:
            found = differences(self._whole, read(folder))
            self.failures += [f"trial {number}, killed {killed} times: {each}" for each in found]

    def _moment(self) -> tuple[int, float]:
        """When to kill: so many saves have begun, and so many seconds more."""
        if self._chance.random() < 0.5:
            return 0, self._chance.uniform(0, self._lifetime)
        return self._chance.randint(1, STEPS // SAVE_STEPS), self._chance.uniform(0, 0.02)

    def _process(self, folder: Path, moment: tuple[int, float] | None) -> str:
        """Run a process to its end, or kill it at a moment; return how it ended."""
        folder.mkdir(exist_ok=True)
        pid = self._nursery.fork(str(folder))
        said = self._said()
        if moment is not None:
            saves, seconds = moment
            for _ in range(saves):
                if (line := next(said)) != "saving":
                    return line
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                line = self._nursery.lines.next(left)
                if line is not None and line != "saving":
                    return line
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        return next(line for line in said if line != "saving")

    def _said(self) -> Iterator[str]:
        while True:
            yield self._nursery.lines.next(30) or "it neither ended nor said anything in 30 s"


def wrong_after_a_kill(folder: Path) -> list[str]:
    """What is wrong with the checkpoints of a training that was killed."""
    # Killed before its first checkpoint, a training begins anew, as a run of its own.
    runs = [path.parent for path in (folder / "runs").glob("*/run.json")]
    readers = [
        JournalReader(run).records(types=(CheckpointSaved,), superseded=True) for run in runs
    ]
    steps = [record.event.step or 0 for records in readers for record in records]
    reported = max(steps, default=0)
    good = last_good_checkpoint(folder)
    found = 0 if good is None else checkpoint_step(good)
    return [f"{reported} was reported saved, {found} is there"] if found < reported else []


def read(folder: Path) -> dict[str, object]:
    """The outcome that a process has written down."""
    found: dict[str, object] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    return found


def run_kill_trials(kills: int, seed: int) -> list[str]:
    """Kill so many processes; return what was not as promised."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as parent, started(__file__) as nursery:
        trials = Trials(nursery, Path(parent), chance)
        number = 0
        while trials.kills < kills and len(trials.failures) < 20:
            trials.trial(number, kills - trials.kills)
            number += 1
    return [f"{each} (seed {seed})" for each in trials.failures]


if __name__ == "__main__":
    # Before the fork, not in each child: optimizers import it with their first step.
    importlib.import_module("torch._dynamo")
    assert runtime.Trainer
    serve(train)
