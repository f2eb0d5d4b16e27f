"""The demo's trainer: its model, its data, its arguments, and what it does beside training."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, Unpack

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from runtime import (
    ProgressCallback,
    Run,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from runtime._callbacks import HookArguments, MetricArguments
from runtime.demo._data import Windows, load_corpus
from runtime.demo._model import ByteGPT
from runtime.demo._options import Recipe

_PROMPT: Final = "The "


def make_model(recipe: Recipe) -> ByteGPT:
    """An untrained model, the same one for the same seed."""
    torch.default_generator.manual_seed(recipe.seed)
    return ByteGPT(recipe.shape)


def make_trainer(
    recipe: Recipe,
    model: ByteGPT,
    run: Run,
    folder: Path,
    *,
    use_cpu: bool,
    resumed: bool,
    crash: "Crash | None",
) -> Trainer:
    """The trainer of a model.

    Args:
        recipe: The numbers to train by.
        model: What to train.
        run: Where to publish.
        folder: Where checkpoints go.
        use_cpu: Whether to train on the CPU even if there is an accelerator.
        resumed: Whether training will go on from a checkpoint, so that it does not begin with an
            evaluation and a checkpoint.
        crash: What ends the process on the way, if anything does.
    """
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=use_cpu,
        seed=recipe.seed,
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=32,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.01},
        # A short training would end before the peak otherwise.
        warmup_steps=min(recipe.warmup_steps, 1 + recipe.steps // 10),
        weight_decay=recipe.weight_decay,
        adam_beta2=0.99,
        max_grad_norm=recipe.gradient_norm,
        label_names=["labels"],
        logging_steps=1,
        logging_nan_inf_filter=False,  # a watcher waits for the loss that is none
        eval_strategy="steps",
        eval_steps=recipe.evaluate_every,
        eval_on_start=not resumed,
        prediction_loss_only=True,
        metric_for_best_model="loss",
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        # What was saved before the crash is then there, and each resume begins at the same step.
        asynchronous_checkpoints=crash is None,
    )
    corpus = load_corpus(limit=recipe.text_limit)
    diary = Diary(recipe, run)
    trainer = Trainer(
        model,
        args,
        train_dataset=Windows(corpus.train, context=recipe.context, stride=1),
        eval_dataset=Windows(corpus.validation, context=recipe.context, stride=recipe.context),
        compute_loss_func=loss,
        callbacks=[diary, *([] if crash is None else [crash])],
        run=run,
    )
    trainer.remove_callback(ProgressCallback)  # the demo has a display of its own
    diary.save = trainer.save_checkpoint
    return trainer


def loss(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | None) -> Tensor:  # noqa: ARG001 - the trainer's signature
    """The mean cross-entropy in nats per byte."""
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def evaluations(state: TrainerState) -> dict[int, float]:
    """The validation loss in nats per byte by step, oldest first."""
    return {
        int(entry["step"]): entry["eval_loss"]
        for entry in state.log_history
        if "eval_loss" in entry
    }


def sample(model: torch.nn.Module | None, *, length: int, seed: int) -> str:
    """Some text of the model, the same one for the same seed.

    Whatever could trouble a terminal is replaced: an untrained model writes any byte.
    """
    assert isinstance(model, ByteGPT)
    text = model.generate(_PROMPT, length=length, seed=seed)
    return "".join(each if _is_harmless(each) else "·" for each in text)


def _is_harmless(character: str) -> bool:
    return character == "\n" or (
        character.isprintable() and character != "\N{REPLACEMENT CHARACTER}"
    )


class Diary(TrainerCallback):
    """Notes what the model writes after each evaluation, and saves the untrained one.

    Args:
        recipe: How much to write.
        run: Where to publish it.
    """

    save: Callable[[], object]

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self._recipe = recipe
        self._run = run

    @override
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Unpack[MetricArguments],
    ) -> None:
        step, recipe = state.global_step, self._recipe
        text = sample(kwargs["model"], length=recipe.sample_length, seed=recipe.seed + step)
        self._run.message(" ".join(text.split()), step=step)
        if step == 0:
            self.save()


class Crash(TrainerCallback):
    """Dies as if the machine had taken the process: no handler, no `finally`, no farewell.

    Args:
        before: The step that is not taken any more.
        farewell: Called just before, with that step.
    """

    def __init__(self, before: int, farewell: Callable[[int], None]) -> None:
        self._before = before
        self._farewell = farewell

    @override
    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Unpack[HookArguments],
    ) -> None:
        if state.global_step + 1 == self._before:
            self._farewell(self._before)
            os.kill(os.getpid(), signal.SIGKILL)
