"""A training interrupted anywhere and resumed ends bit-equal to one that never was."""

import logging
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import runtime
from bus import JournalReader, MetricsLogged, RunInfo, RunStarted
from bus.testing import Recorder
from tests.runtime.trainer.resume_parts import (
    Diverging,
    Model,
    Names,
    Samples,
    SeekableStream,
    Stream,
    Tokens,
    differences,
    masked,
    outcome,
    ragged,
)


class InterruptionError(Exception):
    """What a training is interrupted with."""


class Interrupt(runtime.TrainerCallback):
    """Raises at the end of a step.

    Args:
        step: Which; none by default.
    """

    def __init__(self, step=None):
        self._step = step

    def on_step_end(self, _args, state, _control, **_):
        """Before the step is logged, evaluated or saved."""
        if state.global_step == self._step:
            raise InterruptionError


class Restless(runtime.TrainerCallback, runtime.ExportableState):
    """Draws random numbers in its hooks, and asks for things by a count of its own."""

    def __init__(self):
        self.count = 0

    def state(self):
        """The count."""
        return {"args": {}, "attributes": {"count": self.count}}

    def on_epoch_begin(self, _args, _state, _control, **_):
        """Draw."""
        torch.rand(1)
        np.random.rand()  # noqa: NPY002 - as users do

    def on_step_end(self, _args, _state, control, **_):
        """Draw; ask for a log, an evaluation and a checkpoint now and then."""
        random.random()  # noqa: S311 - no secret
        self.count += 1
        control.should_log |= self.count % 5 == 0
        control.should_evaluate |= self.count % 4 == 0
        control.should_save |= self.count % 4 == 0


class ShortEpochs(runtime.TrainerCallback):
    """Ends each epoch early."""

    def on_step_end(self, _args, state, control, **_):
        """After three steps of it."""
        control.should_epoch_stop = state.global_step % 3 == 0


EPOCHS = {"logging_strategy": "epoch", "eval_strategy": "epoch", "save_strategy": "epoch"}
BEST = {"metric_for_best_model": "loss", "save_strategy": "steps"}

CASES = {
    "plain": {},
    "accumulation with a remainder": {"gradient_accumulation_steps": 3, "samples": 20},
    "log and evaluate out of step with saving": {
        "logging_steps": 5,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
    },
    "epoch strategies": EPOCHS,
    "logs at epochs, saves at steps": {**EPOCHS, "save_strategy": "steps", "save_steps": 4},
    "ends within an epoch": {**EPOCHS, "save_strategy": "steps", "num_train_epochs": 1.5},
    "grouped by length, drop last": {
        "train_sampling_strategy": "group_by_length",
        "dataloader_drop_last": True,
        "make": ragged,
        "processing_class": Names,
        "samples": 9,
    },
    "a stream": {"data": Stream, "max_steps": 9},
    "a stream, accumulated": {
        "data": Stream,
        "max_steps": 9,
        "gradient_accumulation_steps": 3,
        "save_steps": 2,
    },
    "a stream, epoch strategies": {"data": Stream, "max_steps": 9, **EPOCHS},
    "a stream, logs at epochs": {"data": Stream, "max_steps": 9, "logging_strategy": "epoch"},
    "a seekable stream": {"data": SeekableStream, "max_steps": 9},
    "two workers": {"dataloader_num_workers": 2},
    "two workers on a stream": {"data": Stream, "max_steps": 9, "dataloader_num_workers": 2},
    "a callback's own count": {"callbacks": [Restless], "eval_strategy": "steps"},
    "epochs cut short": {"callbacks": [ShortEpochs], "num_train_epochs": 3, "save_steps": 1},
    "stopping early": {
        **BEST,
        "callbacks": [lambda: runtime.EarlyStoppingCallback(2, 0.5)],
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 1,
        "logging_strategy": "epoch",
    },
    "the best is saved": {
        **BEST,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "best",
        "load_best_model_at_end": True,
    },
    "plateau": {
        **BEST,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.5},
        "eval_strategy": "steps",
        "eval_steps": 2,
    },
    "warm-up and a cosine": {"lr_scheduler_type": "cosine", "warmup_steps": 3, "optim": "sgd"},
    "all tokens counted": {"model": Tokens, "include_num_input_tokens_seen": "all"},
    "tokens counted by a mask": {
        "model": Tokens,
        "make": masked,
        "include_num_input_tokens_seen": "non_padding",
    },
    "infinite losses filtered": {"model": Diverging, "logging_steps": 4},
    "infinite losses shown": {"model": Diverging, "logging_nan_inf_filter": False},
    "bf16": {"bf16": True},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The models are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder():
    """A folder in memory, if the system has one: each checkpoint is synced to it."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


def make(folder, case, *more):
    """The trainer of a case; its callbacks come behind those given."""
    case = dict(case)
    data = case.pop("data", Samples)
    samples = case.pop("samples", 8)
    make_sample = {"make": case.pop("make")} if "make" in case else {}
    callbacks = [each() for each in case.pop("callbacks", [])]
    model = case.pop("model", Model)()
    extra = {name: case.pop(name) for name in ("processing_class",) if name in case}
    settings = {
        "per_device_train_batch_size": 2,
        "num_train_epochs": 2,
        "learning_rate": 0.05,
        "logging_steps": 2,
        "save_steps": 3,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    trainer = runtime.Trainer(
        model,
        runtime.TrainingArguments(str(folder), **{**settings, **case}),
        train_dataset=data(samples, **make_sample),
        eval_dataset=Samples(4, **make_sample),
        callbacks=[*more, *callbacks],
        **extra,
    )
    trainer.remove_callback(runtime.PrinterCallback)
    return trainer


def train(folder, case, *more, resume=False):
    """Train a case to its end; return its trainer, closed."""
    with make(folder, case, *more) as trainer:
        trainer.train(resume_from_checkpoint=resume)
    return trainer


def seen(trainer):
    """What a trainer's model was trained on."""
    return trainer.model.seen


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_step(case, folder):
    """Interrupted at each step in turn and resumed each time, nothing can be told from the end."""
    whole = train(folder / "whole", case)
    parts = folder / "parts"
    for step in range(1, whole.state.global_step + 1):
        with pytest.raises(InterruptionError):
            train(parts, case, Interrupt(step), resume=any(parts.glob("checkpoint-*")))
    last = train(parts, case, resume=True)

    assert differences(outcome(whole), outcome(last)) == []
    assert seen(last) == seen(whole)[len(seen(whole)) - len(seen(last)) :]
    assert len(seen(last)) < len(seen(whole))


HOOKS = [
    "train_begin",
    "epoch_begin",
    "step_begin",
    "substep_end",
    "pre_optimizer_step",
    "optimizer_step",
    "step_end",
    "log",
    "prediction_step",
    "evaluate",
    "save",
    "epoch_end",
    "train_end",
]


class InterruptHook(runtime.TrainerCallback):
    """Raises in a hook, at its second call if it has one.

    Args:
        hook: Its name without `on_`.
    """

    reads_checkpoint = False

    def __init__(self, hook):
        self._calls = 0
        self._at = 1 if hook in {"train_begin", "train_end"} else 2
        setattr(self, f"on_{hook}", self._interrupt)

    def _interrupt(self, *_, **__):
        self._calls += 1
        if self._calls == self._at:
            raise InterruptionError


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook(hook, folder):
    """Wherever in a step or between two of them it happens."""
    case = {
        "gradient_accumulation_steps": 2,
        "samples": 12,
        "logging_steps": 2,
        "eval_strategy": "epoch",
        "save_steps": 2,
    }
    whole = train(folder / "whole", case)
    with pytest.raises(InterruptionError):
        train(folder / "parts", case, InterruptHook(hook))
    last = train(folder / "parts", case, resume=any(folder.glob("parts/checkpoint-*")))

    assert differences(outcome(whole), outcome(last)) == []


def test_a_damaged_checkpoint_is_named_and_passed_over(folder, caplog):
    """The one before it serves, and the end is the same."""
    whole = train(folder / "whole", {})
    with pytest.raises(InterruptionError):
        train(folder / "parts", {}, Interrupt(8))
    newest = folder / "parts" / "checkpoint-6"
    content = bytearray((newest / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(content)
    with caplog.at_level(logging.WARNING, "runtime"):
        last = train(folder / "parts", {}, resume=True)

    assert f"{newest}" in caplog.text
    assert "optimizer.pt" in caplog.text
    assert len(seen(last)) == 5
    assert differences(outcome(whole), outcome(last)) == []


def test_the_journal_shows_the_next_attempt(folder):
    """Of the same run: it says from which step, and what the first did beyond it is superseded."""
    with pytest.raises(InterruptionError):
        train(folder, {"logging_steps": 1}, Interrupt(5))
    begun = Recorder()
    with make(folder, {"logging_steps": 1}) as trainer:
        trainer.run.subscribe(RunStarted)(begun)  # before anybody knows which run it is
        trainer.train(resume_from_checkpoint=True)

    (run,) = (folder / "runs").iterdir()
    info = RunInfo.load(run)
    assert [attempt.outcome for attempt in info.attempts] == ["failed", "finished"]
    started = [r.event for r in JournalReader(run).records(types=(RunStarted,), superseded=True)]
    assert [event.resumed_from_step for event in started] == [None, 3]
    assert [event.attempt for event in begun.events] == [2]
    logged = JournalReader(run).records(types=(MetricsLogged,))
    steps = [record.event.step for record in logged if "loss" in record.event.metrics]
    assert steps == list(range(1, 9))


def order(epoch):
    """The positions in an epoch's batches, for the default seed."""
    found = torch.randperm(8, generator=torch.Generator().manual_seed(42 + epoch)).tolist()
    return [found[first : first + 2] for first in range(0, 8, 2)]


def test_data_is_not_skipped_if_so_wanted(folder):
    """The epoch's samples begin anew, as upstream's do, and generators go on."""
    case = {"ignore_data_skip": True}
    with pytest.raises(InterruptionError):
        train(folder, case, Interrupt(7))
    shutil.rmtree(folder / "checkpoint-6")
    again = train(folder, case, resume=True)

    orders = [positions for positions, _ in seen(again)]
    assert orders == [*order(0), *order(1)[:1]]
    assert again.state.epoch == 1.25


def test_a_seekable_stream_is_not_read_again(folder):
    """It goes where it was without making the samples before."""
    case = {"data": SeekableStream, "max_steps": 8, "num_train_epochs": 1}
    with pytest.raises(InterruptionError):
        train(folder, case, Interrupt(4))
    again = train(folder, case, resume=True)

    assert again.train_dataset.read == 2 * len(seen(again)) == 10


def test_an_early_stop_stays_one(folder):
    """Resumed from the checkpoint at which patience ran out, no step is taken."""
    case = {**CASES["stopping early"], "learning_rate": 0.0}
    whole = train(folder, case)
    again = train(folder, case, resume=True)

    assert whole.state.global_step < whole.state.max_steps
    assert differences(outcome(whole), outcome(again)) == []
    assert seen(again) == []


def test_nothing_is_trained_beyond_the_end(folder):
    """Resumed from the last step, within an epoch, no step is taken."""
    case = {"max_steps": 6}
    whole = train(folder, case)
    again = train(folder, case, resume=True)

    assert differences(outcome(whole), outcome(again)) == []
    assert seen(again) == []


def test_a_batch_size_that_was_found_to_fit_is_kept(folder):
    """An earlier attempt has run out of memory; its batches are those of the checkpoint."""

    class Small(Model):
        def forward(self, x, labels=None, index=None):
            if len(x) > 3:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x, labels, index)

    case = {"model": Small, "auto_find_batch_size": True, "per_device_train_batch_size": 4}
    case = {**case, "max_steps": 6, "save_steps": 2}
    whole = train(folder / "whole", case)
    with pytest.raises(InterruptionError):
        train(folder / "parts", case, Interrupt(5))
    last = train(folder / "parts", case, resume=True)

    assert whole.state.train_batch_size == 3
    assert differences(outcome(whole), outcome(last)) == []
