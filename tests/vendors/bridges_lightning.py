"""Trains under Lightning's trainer with `BusLogger` and `BusControl`, by one process or two.

Usage: `python -m tests.vendors.bridges_lightning FOLDER alone|two`, with a tracking server named in
the environment. Lightning itself starts the second process.
"""

import contextlib
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from bus import Evaluate, Log, Save, SetLearningRate, StepEnded, Stop
from runtime.bridges.lightning import BusControl, BusLogger
from tests.vendors.bridges_parts import (
    ended,
    journal,
    pause,
    register_sinks,
    report,
    scalars,
    shown,
)


class Module(LightningModule):
    """One layer."""

    strategy = staticmethod(lambda: "ddp")

    def __init__(self, width: int = 4, api_key: str = "secret-0123456789") -> None:  # noqa: ARG002 - a hyperparameter
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)
        self.losses: list[float] = []
        self.fails_at = -1

    def training_step(self, batch: Any, index: int) -> Any:
        """The mean square; logged at each step and for the epoch."""
        if index == self.fails_at:
            raise ArithmeticError("told to")
        loss = self.layer(batch).square().mean()
        self.losses.append(float(loss))
        self.log("loss", loss)
        self.log("epoch_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _index: int) -> None:
        """The same."""
        self.log("val_loss", self.layer(batch).square().mean(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Kinds(BusLogger):
    """Notes of which kind logged values are."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.kinds: set[str] = set()

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Look, and log."""
        self.kinds |= {type(each).__name__ for name, each in metrics.items() if name != "epoch"}
        super().log_metrics(metrics, step)


def data(size: int) -> DataLoader[Any]:
    """The same samples every time, in batches of eight."""
    generator = torch.Generator().manual_seed(3)
    return DataLoader(torch.randn(size, 4, generator=generator), batch_size=8)  # type: ignore[arg-type]  # a tensor is indexed by position too


def fit(loggers: Any, callbacks: Any, *, checkpoint: Any = None, **given: Any) -> Trainer:
    """Train a new module."""
    seed_everything(1)
    module = given.pop("module", Module)()
    module.fails_at = given.pop("fails_at", -1)
    usual = {"accelerator": "cpu", "max_epochs": 3, "log_every_n_steps": 1}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(logger=loggers, callbacks=callbacks, **{**usual, **quiet, **given})
    trainer.fit(module, data(64), data(16), ckpt_path=checkpoint)
    return trainer


def alone(folder: Path) -> None:
    """Everything that one process shows."""
    theirs = TensorBoardLogger(folder / "theirs", name="", version="")
    fit(theirs, [], enable_checkpointing=False)
    ours = Kinds(["tensorboard", "mlflow"], name="whole", dir=folder / "runs")
    fit(ours, [BusControl(), ModelCheckpoint(every_n_epochs=2)])
    ours.close()
    beside = Kinds(name="beside", dir=folder / "runs")
    fit([beside, CSVLogger(folder / "csv")], [BusControl()], max_epochs=1)
    beside.close()

    first = BusLogger(["tensorboard"], name="stopped", dir=folder / "runs")

    @first.run.decider(StepEnded, deadline=60.0)
    async def ask(event: StepEnded) -> Any:
        asked = {
            3: Save(),
            4: Evaluate(),
            6: SetLearningRate(value=0.01),
            8: Log(),
            13: Stop(reason="enough"),
        }
        return asked.get(event.step or 0)

    stopped = fit(first, [BusControl()], log_every_n_steps=5)
    first.close()
    before = journal(first.run.dir)
    where = first.run.dir / "checkpoints"
    second = BusLogger(["tensorboard"], name="stopped", dir=folder / "runs")
    fit(second, [BusControl()], checkpoint=where / "step=4.ckpt", max_epochs=2)
    second.close()

    failed = BusLogger(name="failed", dir=folder / "runs")
    with contextlib.suppress(ArithmeticError):
        fit(failed, [BusControl()], fails_at=3)
    report(
        folder,
        "alone",
        {
            "theirs": scalars(folder / "theirs"),
            "ours": scalars(ours.run.dir / "tensorboard"),
            "kinds": sorted(ours.kinds),
            "kinds_beside": sorted(beside.kinds),
            "whole": journal(ours.run.dir),
            "places": [ours.name, ours.version, ours.log_dir, ours.save_dir],
            "stopped_at": stopped.global_step,
            "rate": stopped.optimizers[0].param_groups[0]["lr"],
            "every": stopped.log_every_n_steps,
            "checkpoints": sorted(each.name for each in where.iterdir()),
            "stopped": before,
            "resumed": journal(first.run.dir),
            "ended": ended(first.run.dir),
            "resumed_scalars": scalars(first.run.dir / "tensorboard")["loss"],
            "failed": journal(failed.run.dir)[-1],
        },
    )


class Asks(Callback):
    """Asks on the second rank only, for a save and then for a stop."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Also takes its time."""
        pause()
        run = trainer.logger.run
        if trainer.global_rank == 1 and trainer.global_step in (3, 30):
            run.control.request(Save() if trainer.global_step == 3 else Stop(reason="the second"))


class Sharded(Module):
    """The layer in two halves."""

    strategy = staticmethod(partial(ModelParallelStrategy, process_group_backend="gloo"))

    def configure_model(self) -> None:
        """Shard it as torch does; called again before each fit."""
        fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])


def two(folder: Path) -> None:
    """Two processes, stopped by one of them: a copy of the model on each, then half of it.

    The second training is resumed, from a checkpoint of which each has written half.
    """
    usual = {"devices": 2, "max_epochs": 500, "limit_val_batches": 0, "enable_checkpointing": False}
    found = {}
    for name, module in (("ddp", Module), ("sharded", Sharded)):
        logger = BusLogger(["tensorboard", "mlflow"], name=name, dir=folder / "runs")
        trainer = fit(
            logger, [Asks(), BusControl()], module=module, strategy=module.strategy(), **usual
        )
        logger.close()
        found[name] = {
            "steps": trainer.global_step,
            "losses": trainer.lightning_module.losses,
            "journal": journal(logger.run.dir, trainer.global_rank),
            "shown": shown(logger.run),
            "saved": sorted(each.name for each in (logger.run.dir / "checkpoints").iterdir()),
        }
    again = BusLogger(["tensorboard"], name="sharded", dir=folder / "runs")
    saved = logger.run.dir / "checkpoints" / found["sharded"]["saved"][0]
    limits = {**usual, "max_epochs": -1, "max_steps": found["sharded"]["steps"] + 2}
    strategy = Sharded.strategy()
    fit(again, [BusControl()], checkpoint=saved, module=Sharded, strategy=strategy, **limits)
    again.close()
    found["resumed"] = {
        "journal": journal(again.run.dir, trainer.global_rank),
        "shown": shown(again.run),
    }
    os.environ["RANK"] = str(trainer.global_rank)  # for the report's name
    report(folder, "two", found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    register_sinks()
    {"alone": alone, "two": two}[sys.argv[2]](Path(sys.argv[1]))
