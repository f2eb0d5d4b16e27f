"""`BusLogger` and `BusControl` publish Lightning's trainings and bring requests back into them.

```
import lightning
from runtime.bridges.lightning import BusControl, BusLogger

trainer = lightning.Trainer(logger=BusLogger(sinks=["tensorboard"]), callbacks=[BusControl()])
trainer.fit(module, data)
```

Steps are counted as Lightning's loggers count them: the first one is 0.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bus import (
    CheckpointSaved,
    EpochBegan,
    EpochEnded,
    Evaluated,
    Event,
    Preempt,
    Request,
    StepEnded,
    TrainBegan,
    TrainEnded,
)
from runtime._learning_rate import set_learning_rate
from runtime.bridges._lightning_logger import BusLogger, Callback
from runtime.bridges._lightning_metrics import leave_on_device
from runtime.bridges._lightning_resume import begin_fit, described

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch.optim import Optimizer

__all__ = ["BusControl", "BusLogger"]

log: logging.Logger = logging.getLogger("runtime")

_KEPT: Final = ("global_step", "callbacks")
"""What of a checkpoint says which run it is of."""


class BusControl(Callback):
    """Publishes a training's course on its `BusLogger`'s run, and does what is asked there.

    After a step `Stop` ends training (once Lightning's `min_steps` and `min_epochs` are met),
    `Save` writes a checkpoint, `Evaluate` validates, `Log` logs, `SetLearningRate` changes the rate
    of every optimizer, and a `Preempt` saves and stops; on all ranks at the same step.

    Checkpoints name the run: `fit(ckpt_path=...)` is its next attempt. What an exception ends has
    failed, with the exception's words in the journal.

    A `Stop` that comes while gradients are accumulated takes effect at the end of the step.
    """

    def __init__(self) -> None:
        self._logger: BusLogger | None = None
        self._stepped = 0
        self._checkpoint: dict[str, Any] | None = None
        self._restore: list[Callable[[], None]] = []

    def handle_request(self, request: Request, trainer: "Trainer") -> None:
        """Act on a request that took effect; override it for requests of your own kinds.

        Called on the training thread of each rank, for our requests too.
        """

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Find the logger.

        Raises:
            ValueError: There is no `BusLogger`.
        """
        found = [each for each in trainer.loggers if isinstance(each, BusLogger)]
        if not found:
            raise ValueError(
                "BusControl has no run to publish on: give the trainer one, Trainer("
                "logger=BusLogger(...), callbacks=[BusControl()]), beside other loggers if you like"
            )
        self._logger = found[0]
        self._logger.controlled = stage == "fit"
        self._logger.own.renew()
        self._checkpoint = None
        leave_on_device(trainer, BusLogger)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._logger is None else described(self._logger.run)

    def on_load_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        self._checkpoint = {key: checkpoint[key] for key in _KEPT if key in checkpoint}

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        owner, loaded = self._owner, self._checkpoint
        owner.begin(trainer, lambda: begin_fit(owner.own, loaded, self.state_key))
        self._stepped = trainer.global_step
        steps, epochs = trainer.max_steps, trainer.max_epochs
        self._announce(
            trainer,
            TrainBegan,
            max_steps=steps if steps >= 0 else None,
            epochs=float(epochs) if epochs is not None and epochs >= 0 else None,
        )

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._announce(trainer, EpochBegan, epoch=float(trainer.current_epoch))

    def on_train_batch_start(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        batch: Any,  # noqa: ANN401 - whatever the loader gives
        batch_idx: int,
    ) -> None:
        self._put_back()

    def on_before_optimizer_step(
        self, trainer: "Trainer", pl_module: "LightningModule", optimizer: "Optimizer"
    ) -> None:
        for watch in self._owner.run.watches:
            watch.sample(_step(trainer) + 1)

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,  # noqa: ANN401 - whatever the step returned
        batch: Any,  # noqa: ANN401 - as above
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self._stepped:  # gradients are being accumulated
            return
        self._stepped = trainer.global_step
        self._announce(trainer, StepEnded)
        monitor = self._owner.run.active_monitor
        if monitor is not None:
            monitor.step(_step(trainer))
        self._decide(trainer)

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._put_back()
        self._owner.latest = None

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.sanity_checking or self._owner.latest is None:
            return
        step, metrics = self._owner.latest
        run = self._owner.run
        # Deciders get numbers: here, and only here, the device is waited for.
        found = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        run.publish(Evaluated(step=step, metrics=found))

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._put_back()
        self._announce(trainer, EpochEnded, epoch=float(trainer.current_epoch + 1))

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._announce(trainer, TrainEnded)
        self._owner.own.expect("stopped" if trainer.should_stop else None)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        if self._logger is not None:
            self._logger.error = exception  # finalize("failed") follows

    @property
    def _owner(self) -> BusLogger:
        assert self._logger is not None, "Lightning calls setup first"
        return self._logger

    def _announce(self, trainer: "Trainer", kind: type[Event], **fields: Any) -> None:  # noqa: ANN401 - whatever the event has
        """Publish an event if somebody wants it; only then it is built."""
        run = self._owner.run
        if run.wants(kind):
            run.publish(kind(step=_step(trainer), **fields))

    def _decide(self, trainer: "Trainer") -> None:
        """Do what was asked since the last step."""
        decision = self._owner.run.safe_point(_step(trainer))
        if decision.stop:
            trainer.should_stop = True
        if not decision.requests:
            return
        if decision.learning_rate is not None:
            for optimizer in trainer.optimizers:
                set_learning_rate(optimizer, None, decision.learning_rate)
        if decision.log:
            self._set_until_next(trainer, "log_every_n_steps", 1)
        if decision.evaluate:
            self._validate_next(trainer)
        if decision.save or decision.of(Preempt):
            self._save(trainer)
        for request in decision.requests:
            self.handle_request(request, trainer)

    def _validate_next(self, trainer: "Trainer") -> None:
        """Have Lightning find that it is time to validate, when it looks behind this hook."""
        if not trainer.enable_validation:
            log.warning("a validation was asked for, and there is nothing to validate on")
            return
        self._set_until_next(trainer, "check_val_every_n_epoch", 1)
        self._set_until_next(trainer, "val_check_batch", 1)
        if getattr(trainer, "_val_check_time_interval", None) is not None:
            self._set_until_next(trainer, "_val_check_time_interval", 0.0)

    def _save(self, trainer: "Trainer") -> None:
        """Write a checkpoint where Lightning's own are; on all ranks, which come here together."""
        run = self._owner.run
        own = getattr(trainer.checkpoint_callback, "dirpath", None)
        folder = Path(own) if own else run.dir / "checkpoints"
        path = folder / f"step={trainer.global_step}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            run.publish(CheckpointSaved(step=_step(trainer), path=str(path)))
            run.artifact(path, kind="checkpoint", step=_step(trainer))

    def _set_until_next(self, trainer: "Trainer", name: str, value: object) -> None:
        before = getattr(trainer, name)
        self._restore.append(lambda: setattr(trainer, name, before))
        setattr(trainer, name, value)

    def _put_back(self) -> None:
        while self._restore:
            self._restore.pop()()


def _step(trainer: "Trainer") -> int:
    """The step just done, as Lightning's loggers count: the first one is 0."""
    return max(0, trainer.global_step - 1)
