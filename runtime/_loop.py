"""The training loop, from the first hook to the last.

It reads top to bottom, hooks as `hook:`, and waits for no tensor:

```
hook: train_begin
evaluate, if asked for at the start
for each epoch:
    hook: epoch_begin
    for each optimizer step:
        fetch the micro-batches of the step
        for each of them:
            first of the step -> hook: step_begin
            forward, backward; keep the loss on the device
            last of the step  -> clip, hook: pre_optimizer_step, step, hook: optimizer_step,
                                 schedule, zero gradients, count, hook: step_end,
                                 safe point, then log -> evaluate -> save;
                                 if preempted: no evaluation, save if there is time, leave
            any other         -> hook: substep_end
            leave the epoch, or training, if a flag says so
    hook: epoch_end, safe point, then log -> evaluate -> save
the summary; the best model; hook: train_end
```
"""

import contextlib
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

import torch

from bus import (
    EpochBegan,
    EpochEnded,
    Event,
    OptimizerStepBegan,
    OptimizerStepEnded,
    StepBegan,
    StepEnded,
    SubstepEnded,
    TrainBegan,
    TrainEnded,
)
from runtime._evaluation_store import batch_size_of
from runtime._outputs import TrainOutput
from runtime._rng import RngState
from runtime._trainer_base import Batch
from runtime._training_plan import TrainingPlan

if TYPE_CHECKING:
    from runtime._data import EpochFeed
    from runtime._resume import Resumed
    from runtime._trainer_training import Training

log = logging.getLogger("runtime")

_ALWAYS: Final = contextlib.nullcontext()


class TrainingLoop:
    """One call of `Trainer.train`, once everything is prepared.

    Args:
        trainer: Whose hooks, steps and flags these are.
        plan: How long to train.
        feed: The micro-batches.
        resumed: What a checkpoint has of the first epoch; None when training begins anew.
    """

    def __init__(
        self,
        trainer: "Training",
        plan: TrainingPlan,
        feed: "EpochFeed",
        resumed: "Resumed | None",
    ) -> None:
        self._trainer = trainer
        self._args = trainer.args
        self._plan = plan
        self._feed = feed
        self._resumed = resumed
        self._started = time.time()
        self._first_step = trainer.state.global_step
        self._waited = feed.waited
        self._heard = False
        self._parameters = list(trainer.model.parameters())
        self._fits = False

    def run(self) -> TrainOutput:
        """Train to the end, or to where a flag ends it."""
        trainer, plan = self._trainer, self._plan
        self._zero_gradients()
        trainer.call_hook("on_train_begin")
        trainer.announce(TrainBegan, {"max_steps": plan.max_steps, "epochs": self._epochs()})
        if self._args.eval_on_start:
            trainer.evaluate_in_training(best=False)
            trainer.leave_if_preempted()
        for epoch in self._epochs_left():
            trainer.call_hook("on_epoch_begin")
            trainer.announce(EpochBegan, {"epoch": trainer.state.epoch or 0.0})
            with trainer.run.phases.begin("training", lenient=False):
                self._run_epoch(epoch)
            self._end_epoch(epoch)
            if trainer.control.should_training_stop:
                break
        return self._finish()

    def _epochs_left(self) -> range:
        """The epochs to run, once what a resumed training owes to the last one is done."""
        resumed, control = self._resumed, self._trainer.control
        if resumed is None:
            return range(self._plan.epochs if self._plan.max_steps else 0)
        resumed.restore_generators()
        if self._trainer.pay_debt():
            resumed = self._resumed = resumed.with_generators(RngState.capture())
        over = resumed.is_complete or control.should_training_stop
        if resumed.owes_end and (over or not resumed.batches):
            self._end_epoch(resumed.epoch if resumed.batches else resumed.epoch - 1)
            over |= self._trainer.control.should_training_stop
        return range(0) if over else range(resumed.epoch, self._plan.epochs)

    def _epochs(self) -> float | None:
        known = self._plan.epochs * self._plan.steps_per_epoch < 2**53
        return float(self._plan.epochs) if known else None

    def _run_epoch(self, epoch: int) -> None:
        """One pass over the data, or what is left of it."""
        trainer, feed = self._trainer, self._feed
        done = self._begin_epoch(epoch)
        batch = feed.taken - 1
        for number in range(done, self._plan.steps_per_epoch):
            group = self._next_group(first=number == done)
            if not group:
                break
            if not self._fits:
                trainer.check_batch(group[0])
                self._fits = True
            items = trainer.count_items(group)
            trainer.current_gradient_accumulation_steps = len(group)
            for index, inputs in enumerate(group):
                batch += 1
                last = index == len(group) - 1
                with self._exchange(last=last):
                    self._accumulate(inputs, items, first=index == 0)
                if last:
                    self._tell_monitor(group)
                    self._step(epoch + (batch + 1) / self._plan.batches_per_epoch)
                else:
                    trainer.call_hook("on_substep_end")
                    self._announce(SubstepEnded, {"substep": index + 1})
                if trainer.control.should_epoch_stop or trainer.control.should_training_stop:
                    if not last:  # an unfinished step is dropped, never leaked
                        self._zero_gradients()
                        trainer.forget_gradients()
                    return
        if batch < 0:
            log.warning(
                "not a single batch came in this epoch, so training stops at step %d; data that "
                "can be read only once, or fewer than drop_last wants, may be the reason",
                trainer.state.global_step,
            )
            trainer.control.should_training_stop = True

    def _begin_epoch(self, epoch: int) -> int:
        """Make the epoch's batches ready; tell how many of its optimizer steps are done."""
        resumed, self._resumed = self._resumed, None
        batches = resumed.batches if resumed is not None else 0
        if resumed is not None and resumed.epoch_start is not None:
            resumed.epoch_start.restore()
        self._trainer.note_epoch(epoch, RngState.capture())
        self._feed.begin(epoch, skip=batches, state=resumed.data if resumed else None)
        if resumed is not None and batches:
            resumed.restore_generators()
        return math.ceil(batches / self._args.gradient_accumulation_steps)

    def _next_group(self, *, first: bool) -> list[Batch]:
        """The micro-batches of a step; for the first of an epoch, workers may have to start."""
        if not first:
            return self._feed.next_group()
        with self._trainer.run.phase("first batch"):
            return self._feed.next_group()

    def _end_epoch(self, epoch: int) -> None:
        trainer = self._trainer
        trainer.note_epoch(epoch + 1, None)
        trainer.call_hook("on_epoch_end")
        trainer.announce(EpochEnded, {"epoch": trainer.state.epoch or 0.0})
        self._log_evaluate_save()

    def _exchange(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """The context of a micro-batch: processes exchange gradients at the last of a step only."""
        parallel = self._trainer.data_parallel
        return _ALWAYS if last or parallel is None else parallel.keeping_gradients()

    def _accumulate(self, inputs: Batch, items: torch.Tensor | None, *, first: bool) -> None:
        """The gradients of one micro-batch."""
        trainer = self._trainer
        if first:
            trainer.call_hook("on_step_begin")
            self._heard = trainer.run.has_listeners
            self._announce(StepBegan)
        model = trainer.model_wrapped
        if not (model.training and trainer.model.training):  # an evaluation has only the inner one
            model.train()
        loss = trainer.training_step(model, inputs, items)
        trainer.account(inputs, loss)

    def _step(self, epoch: float) -> None:
        """The optimizer's step and everything that hangs on it."""
        trainer, optimizer = self._trainer, cast("torch.optim.Optimizer", self._trainer.optimizer)
        trainer.before_update()
        trainer.unscale_gradients()
        grad_norm = trainer.clip_gradients(self._parameters)
        trainer.call_hook("on_pre_optimizer_step")
        self._announce(OptimizerStepBegan)
        for watch in trainer.run.watches:
            watch.sample(trainer.state.global_step + 1)
        stepped = trainer.step_optimizer(optimizer)
        trainer.call_hook("on_optimizer_step")
        self._announce(OptimizerStepEnded)
        trainer.note_step(grad_norm, trainer.learning_rate())
        if stepped:
            trainer.step_scheduler()
        self._zero_gradients()
        trainer.state.global_step += 1
        trainer.state.epoch = epoch
        trainer.call_hook("on_step_end")
        self._announce(StepEnded)
        self._log_evaluate_save()

    def _announce(self, kind: type[Event], fields: Mapping[str, object] | None = None) -> None:
        """Publish an event of a step, which is live-only: there is nobody without a listener."""
        if self._heard:
            self._trainer.announce(kind, fields)

    def _tell_monitor(self, group: list[Batch]) -> None:
        """What a step is worth and how long its data took, if somebody monitors the run."""
        monitor = self._trainer.run.active_monitor
        if monitor is None:
            return
        waited, self._waited = self._feed.waited - self._waited, self._feed.waited
        monitor.waited(waited)
        monitor.step(
            self._trainer.state.global_step + 1,
            samples=sum(batch_size_of(batch) or 0 for batch in group),
            tokens=sum(self._trainer.count_tokens(batch) for batch in group),
            flops=sum(self._trainer.floating_point_ops(batch) for batch in group),
        )

    def _log_evaluate_save(self) -> None:
        """Always in this order; a flag set on the way still counts for what is behind it."""
        trainer = self._trainer
        trainer.apply_requests()
        if trainer.control.should_log and trainer.has_news:
            trainer.log_training(self._started)
        if trainer.control.should_evaluate:
            trainer.evaluate_in_training(best=True)
        trainer.leave_if_preempted()
        if trainer.control.should_save:
            with trainer.run.phase("saving"):
                trainer.save_checkpoint()

    def _zero_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _finish(self) -> TrainOutput:
        trainer = self._trainer
        metrics = trainer.log_summary(self._plan, self._first_step, self._started)
        trainer.settle_checkpoints()
        trainer.call_hook("on_train_end")
        trainer.announce(TrainEnded, {"metrics": dict(metrics)})
        trainer.finish_pushes()
        return TrainOutput(trainer.state.global_step, metrics["train_loss"], dict(metrics))
