"""One case of `bridges.py`: blocks with our bridge between blocks with a library's own logger.

Started by it as `python _bridges_case.py FOLDER PLAN`; prints a `BridgeResult` as JSON.
"""

import gc
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _bridges_result import CLOCKS, BridgePlan, BridgeResult, Clock, Library
from _trainer_contenders import make_optimizer
from _trainer_result import Plan
from _trainer_work import LEARNING_RATE, Task, Timed, make_task
from torch import nn
from torch.utils.data import DataLoader

from bus import register_sink

# Benchmarks beside this file are called like packages that trainers look for.
sys.path[:] = [each for each in sys.path if Path(each) != Path(__file__).resolve().parent]

SINK = "tensorboard"


def train_transformers(task: Task, folder: Path, ours: bool) -> None:
    """Three numbers at each step, by `TensorBoardCallback` or by `BusCallback`."""
    transformers: Any = importlib.import_module("transformers")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "theirs")
    bridge: Any = importlib.import_module("runtime.bridges.transformers")
    callbacks = [bridge.BusCallback([SINK])] if ours else []
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=task.steps,
        per_device_train_batch_size=task.batch,
        learning_rate=LEARNING_RATE,
        logging_steps=1,
        save_strategy="no",
        report_to="none" if ours else "tensorboard",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(
        task.model, arguments, train_dataset=task.data, callbacks=callbacks
    )
    trainer.train()
    for each in callbacks:
        each.close()


def train_lightning(task: Task, folder: Path, ours: bool) -> None:
    """The loss at each step, by `TensorBoardLogger`, or by `BusLogger` with `BusControl`."""
    lightning: Any = importlib.import_module("lightning.pytorch")
    loggers: Any = importlib.import_module("lightning.pytorch.loggers")
    bridge: Any = importlib.import_module("runtime.bridges.lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]  # imported late
        """The task as Lightning wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            loss: torch.Tensor = self.model(**batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(task)[0]

    own = bridge.BusLogger([SINK], dir=folder) if ours else loggers.TensorBoardLogger(folder)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=task.steps,
        logger=own,
        callbacks=[bridge.BusControl()] if ours else [],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(task.data, batch_size=task.batch, shuffle=True))
    if ours:
        own.close()


def train_accelerate(task: Task, folder: Path, ours: bool) -> None:
    """Two numbers at each step of a loop, by the tracker "tensorboard" or by `BusTracker`."""
    accelerate: Any = importlib.import_module("accelerate")
    bridge: Any = importlib.import_module("runtime.bridges.accelerate")
    tracker = bridge.BusTracker([SINK], dir=folder) if ours else "tensorboard"
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker, project_dir=folder)
    accelerator.init_trackers("demo")
    model, optimizer, data = accelerator.prepare(
        task.model,
        make_optimizer(task)[0],
        DataLoader(task.data, batch_size=task.batch, shuffle=True),
    )
    for step, batch in enumerate(data, start=1):
        loss = model(**batch)["loss"]
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        shown = loss.detach() if ours else loss.item()  # theirs takes no tensors
        accelerator.log({"loss": shown, "progress": step / task.steps}, step=step)
        if ours and tracker.run.safe_point(step).stop:
            break
    accelerator.end_training()


TRAIN: dict[Library, Callable[[Task, Path, bool], None]] = {
    "transformers": train_transformers,
    "lightning": train_lightning,
    "accelerate": train_accelerate,
}


class Clocked(Timed):
    """A model whose calls are noted by every clock.

    Attributes:
        noted: Each clock at the beginning of each call.
    """

    def __init__(self, inner: nn.Module, plan: Plan) -> None:
        super().__init__(inner, plan)
        self.noted: list[dict[Clock, float]] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps a batch to its loss."""
        self.noted.append(
            {
                "wall": time.perf_counter(),
                "thread": time.thread_time(),
                "process": time.process_time(),
            }
        )
        return super().forward(x, labels)

    def steps(self, warm: int) -> dict[Clock, float]:
        """The mean step after so many steps, by each clock."""
        first, last = self.noted[warm], self.noted[-1]
        count = len(self.noted) - warm - 1
        return {clock: (last[clock] - first[clock]) / count for clock in CLOCKS}


def train_block(folder: Path, plan: BridgePlan, ours: bool) -> dict[Clock, float]:
    """Train once, in a folder of its own; returns the mean step in seconds by each clock."""
    work = Plan(
        work="tiny",
        contender="bare",
        base="bare",
        every_step=True,
        blocks=plan.blocks,
        warm=plan.warm,
        steps=plan.steps,
    )
    task = make_task(work)
    model = Clocked(task.model.inner, work)
    task = replace(task, model=model)
    with TemporaryDirectory(dir=folder) as own, redirect_stdout(sys.stderr):
        TRAIN[plan.library](task, Path(own), ours)
    return model.steps(plan.warm)


def main() -> None:
    """Measure the case that the command line describes."""
    folder, plan = Path(sys.argv[1]), BridgePlan.model_validate_json(sys.argv[2])
    warnings.simplefilter("ignore")  # each library has advice for so small a training
    torch.set_num_threads(1)
    register_sink(SINK, "sinks.tensorboard:TensorBoardSink")
    result = BridgeResult()
    for ours in (False, True):
        train_block(folder, plan, ours)
    gc.collect()
    gc.freeze()  # collecting the imported modules would fall upon whoever is at work
    for _ in range(plan.blocks):
        result.base.append(train_block(folder, plan, ours=False))
        result.measured.append(train_block(folder, plan, ours=True))
    result.base.append(train_block(folder, plan, ours=False))
    print(result.model_dump_json())


if __name__ == "__main__":
    main()
