"""Preempts trainings at random moments, starts them again, and says what is not as promised.

`run_preemptions(count, seed)` is for tests and the soak benchmark.

A trial: a process trains; at any moment, inside an evaluation, a save or a compilation too, it gets
SIGTERM or SIGUSR1; another one goes on, and may get one too, until one reaches the end. Whoever was
preempted has saved the state of the step at which it ended, or its journal says why not. In the end
weights, optimizer, generators and logged values are those of a training that nobody preempted, and
all of it is one run."""

import contextlib
import importlib
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Final, cast

import torch

import runtime
from bus import AlertRaised, DecisionApplied, JournalReader, RunInfo
from runtime._checkpoint_files import checkpoint_step
from runtime._checkpoint_load import last_good_checkpoint
from tests.runtime.trainer.nursery import Nursery, serve, started
from tests.runtime.trainer.resume_parts import Model, Samples, differences, outcome

STEPS: Final = 16
OUTCOME: Final = "outcome.json"
GRACE: Final = 60.0
HANG: Final = 60.0
MOMENTS: Final = {"training": 1, "stepping": STEPS, "evaluating": 24, "saving": 4, "compiling": 2}
"""What a training says of itself, and how often it does so at least."""


def say(what: str) -> None:
    """Tell the process that sends the signals."""
    os.write(1, f"{what}\n".encode())


class Telling(runtime.TrainerCallback):
    """Says where training is."""

    reads_checkpoint = False

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Signals are caught from here on."""
        say("training")

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


def compile_slowly(graph, _inputs):
    """A backend that says when it works."""
    say("compiling")
    time.sleep(0.01)
    return graph.forward


def train(line: str) -> None:
    """Train, or go on, and write down the outcome."""
    folder, attempt, compiles = line.split(" ")
    path = Path(folder)
    os.environ["SLURM_RESTART_COUNT"] = attempt
    importlib.import_module("torch._dynamo").register_backend(compile_slowly, name="slow")
    arguments = runtime.TrainingArguments(
        folder,
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
        torch_compile=compiles == "compiled",
        torch_compile_backend="slow" if compiles == "compiled" else None,
    )
    trainer = runtime.Trainer(
        Compiled() if compiles == "compiled" else Model(),
        arguments,
        train_dataset=Samples(22),
        eval_dataset=Samples(40),
        callbacks=[Telling()],
    )
    trainer.remove_callback(runtime.PrinterCallback)
    try:
        with trainer:
            trainer.train(resume_from_checkpoint=any(path.glob("checkpoint-*")))
    except runtime.Preempted as leaving:
        os._exit(cast("int", leaving.code))  # the process that forks knows no SystemExit
    (path / OUTCOME).write_text(json.dumps(outcome(trainer)), encoding="utf-8")


class Trials:
    """Trainings that are preempted, and those that were not.

    Attributes:
        preempted: How many processes have ended because of a signal.
        saved: How many of them with a checkpoint of their last step.
        failures: What was not as promised.
    """

    def __init__(self, nursery: Nursery, parent: Path, chance: random.Random) -> None:
        self.preempted = self.saved = 0
        self.failures: list[str] = []
        self._ending = False
        self._nursery, self._parent, self._chance = nursery, parent, chance
        self._whole: dict[str, dict[str, object]] = {}
        for how in ("plain", "compiled"):
            assert self._process(parent / how, 0, how, None) == "ended 0"
            self._whole[how] = read(parent / how)

    def trial(self, number: int) -> None:
        """Train once, preempted up to three times on the way."""
        how = self._chance.choice(("plain", "plain", "compiled"))
        folder, done = self._parent / str(number), 0
        moments = [self._moment(how) for _ in range(self._chance.randint(1, 3))]
        said = "ended -1"
        for attempt, moment in enumerate([*moments, None]):
            said = self._process(folder, attempt, how, moment)
            if not said.startswith("ended") or said == "ended 0":
                break
            done += 1
            self.failures += [f"{number} {moment}: {each}" for each in self._wrong(folder, said)]
        self.preempted += done
        if said != "ended 0" or not (folder / OUTCOME).is_file():
            self.failures.append(f"{number} {moments}: it did not get to the end: {said}")
            return
        found = differences(self._whole[how], read(folder))
        runs = list((folder / "runs").glob("*/run.json"))
        found += [f"{len(runs)} runs"] if len(runs) != 1 else []
        attempts = len(RunInfo.load(runs[0].parent).attempts)
        found += [f"{attempts} attempts after {done} preemptions"] if attempts != done + 1 else []
        self.failures += [f"{number}, {how}, {moments}: {each}" for each in found]

    def _moment(self, how: str) -> tuple[str, int, float, int]:
        """When to send what: after so many words of a kind, so many seconds later."""
        kinds = [kind for kind in MOMENTS if kind != "compiling" or how == "compiled"]
        kind = self._chance.choice(kinds)
        number = self._chance.choice((signal.SIGTERM, signal.SIGUSR1))
        return (
            kind,
            self._chance.randint(1, MOMENTS[kind]),
            self._chance.choice((0.0, self._chance.uniform(0, 0.02))),
            number,
        )

    def _process(
        self, folder: Path, attempt: int, how: str, moment: tuple[str, int, float, int] | None
    ) -> str:
        """Run a process to its end, with a signal at a moment; return how it ended."""
        folder.mkdir(exist_ok=True)
        pid = self._nursery.fork(f"{folder} {attempt} {how}")
        kind, left, seconds, number = moment or ("", 0, 0.0, 0)
        while True:
            line = self._nursery.lines.next(HANG) or f"nothing was heard for {HANG:g} s"
            if line not in (*MOMENTS, "ending"):
                return line
            left -= line == kind
            if left == 0 and line == kind:
                time.sleep(seconds)
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, number)
                kind = ""
            self._ending = line == "ending"

    def _wrong(self, folder: Path, said: str) -> list[str]:
        """What is wrong with what a preempted training has left behind."""
        if said in ("ended -15", "ended -10") and self._ending:
            return []  # after its training
        if said not in ("ended 143", "ended 138"):
            return [said]
        (run,) = [path.parent for path in (folder / "runs").glob("*/run.json")]
        last = RunInfo.load(run).attempts[-1]
        records = [
            record.event
            for record in JournalReader(run).records(
                types=(DecisionApplied, AlertRaised), superseded=True
            )
            if record.attempt == last.number
        ]
        step = next((e.step or 0 for e in records if isinstance(e, DecisionApplied)), None)
        reasons = [e.text for e in records if isinstance(e, AlertRaised)]
        good = last_good_checkpoint(folder)
        found = 0 if good is None else checkpoint_step(good)
        wrong = [] if last.outcome == "preempted" else [f"run.json says {last.outcome}"]
        self.saved += found == step
        if step is None or (found < step and not reasons):
            wrong.append(f"decided at step {step}, saved at {found}, and no reason stated")
        return wrong


def read(folder: Path) -> dict[str, object]:
    """The outcome that a process has written down."""
    found: dict[str, object] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    return found


def run_preemptions(count: int, seed: int) -> list[str]:
    """Preempt so many processes; return what was not as promised."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as parent, started(__file__) as nursery:
        trials = Trials(nursery, Path(parent), chance)
        number = 0
        while trials.preempted < count and len(trials.failures) < 20:
            trials.trial(number)
            number += 1
    if trials.saved < trials.preempted // 2:
        trials.failures.append(f"only {trials.saved} of {trials.preempted} have saved")
    return [f"{each} (seed {seed})" for each in trials.failures]


if __name__ == "__main__":
    # Before the fork, not in each child: optimizers import it with their first step.
    importlib.import_module("torch._dynamo")
    assert runtime.Trainer
    serve(train)
