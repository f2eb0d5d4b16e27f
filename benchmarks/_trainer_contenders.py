"""Who trains: a bare loop, our trainer, Transformers' and Lightning's; each the same training."""

import importlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from _step_cost_case import three_sinks
from _trainer_result import Contender
from _trainer_work import LEARNING_RATE, MAX_NORM, Task
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

Train = Callable[[Task, Path, bool], None]
"""Trains a task in a folder, logging at every step or as the defaults say."""


def train_bare(task: Task, _folder: Path, _every_step: bool) -> None:
    """The loop that one writes by hand, which logs nothing."""
    loader = make_loader(task)
    optimizer, scheduler = make_optimizer(task)
    for batch in loader:
        moved = {name: each.to(task.device, non_blocking=True) for name, each in batch.items()}
        with task.autocast():
            loss = task.model(**moved)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), MAX_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def make_loader(task: Task) -> DataLoader[dict[str, torch.Tensor]]:
    """Shuffled batches, in pinned memory where there is a GPU, as all trainers' defaults are."""
    pinned = task.device == "cuda"
    return DataLoader(task.data, batch_size=task.batch, shuffle=True, pin_memory=pinned)


def make_optimizer(task: Task) -> tuple[AdamW, LambdaLR]:
    """What Transformers' defaults make: fused AdamW, a rate that falls to nothing.

    As there, biases are a group of their own, which weights would decay without.
    """
    named = list(task.model.named_parameters())
    groups = [
        [each for name, each in named if name.endswith("bias") is own] for own in (False, True)
    ]
    optimizer = AdamW(
        [{"params": group, "weight_decay": 0.0} for group in groups if group],
        lr=LEARNING_RATE,
        fused=True,
    )
    return optimizer, LambdaLR(optimizer, lambda step: max(0.0, 1 - step / task.steps))


def make_trainer(
    library: str, task: Task, folder: Path, every_step: bool, **options: object
) -> Any:  # noqa: ANN401 - either library's
    """A `Trainer` with its `TrainingArguments`, Transformers' or ours."""
    names: Any = importlib.import_module(library)
    frequency = {"logging_steps": 1} if every_step else {}
    arguments = names.TrainingArguments(
        output_dir=str(folder),
        max_steps=task.steps,
        per_device_train_batch_size=task.batch,
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_NORM,
        save_strategy="no",
        report_to="none",
        use_cpu=task.device == "cpu",
        bf16=task.bf16,
        **frequency,
    )
    return names.Trainer(task.model, arguments, train_dataset=task.data, **options)


def train_with_transformers(task: Task, folder: Path, every_step: bool) -> None:
    """Train with Transformers' trainer."""
    make_trainer("transformers", task, folder, every_step).train()


def train_with_ours(task: Task, folder: Path, every_step: bool, **options: object) -> None:
    """Train with ours, and end its run."""
    with closing(make_trainer("runtime", task, folder, every_step, **options)) as trainer:
        trainer.train()


def train_with_sinks(task: Task, folder: Path, every_step: bool) -> None:
    """Train with ours, delivering to JSON lines, TensorBoard files and a web hook meanwhile."""
    with three_sinks(folder) as sinks:
        train_with_ours(task, folder, every_step, sinks=sinks)


def train_with_lightning(task: Task, folder: Path, every_step: bool) -> None:
    """Train with Lightning's, without checkpoints; it logs as its defaults say otherwise."""
    lightning: Any = importlib.import_module("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]  # imported late
        """The task as Lightning wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            loss: torch.Tensor = self.model(**batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_gradient_clipping(self, optimizer: AdamW, **given: object) -> None:
            if task.bf16:  # Lightning's own refuses fused optimizers under autocasting
                nn.utils.clip_grad_norm_(self.parameters(), MAX_NORM)
            else:
                super().configure_gradient_clipping(optimizer, **given)

        def configure_optimizers(self) -> dict[str, object]:
            optimizer, scheduler = make_optimizer(task)
            each_step = {"scheduler": scheduler, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": each_step}

    frequency = {"log_every_n_steps": 1} if every_step else {}
    trainer = lightning.Trainer(
        accelerator=task.device,
        precision="bf16-mixed" if task.bf16 else "32-true",
        devices=1,
        max_steps=task.steps,
        gradient_clip_val=None if task.bf16 else MAX_NORM,
        default_root_dir=folder,
        enable_checkpointing=False,
        **frequency,
    )
    trainer.fit(Module(), make_loader(task))


CONTENDERS: dict[Contender, Train] = {
    "bare": train_bare,
    "hotloop": train_with_ours,
    "sinks": train_with_sinks,
    "transformers": train_with_transformers,
    "lightning": train_with_lightning,
}
