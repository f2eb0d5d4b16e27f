"""`BusCallback` publishes a training of Transformers' `Trainer`, and brings requests back into it.

```
import transformers
from runtime.bridges.transformers import BusCallback

with BusCallback(sinks=["tensorboard"]) as bus:
    trainer = transformers.Trainer(model, args, train_dataset=data, callbacks=[bus])
    bus.run.on(...)
    trainer.train()
```

Where each hook fires is drawn in the docstring of `bus`, beside the event it is published as.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from bus import (
    BusOptions,
    CheckpointSaved,
    Decision,
    EpochBegan,
    EpochEnded,
    Evaluated,
    Event,
    OptimizerStepBegan,
    OptimizerStepEnded,
    Predicted,
    PredictionStepEnded,
    Preempt,
    PushBegan,
    Request,
    StepBegan,
    StepEnded,
    SubstepEnded,
    TrainBegan,
    TrainEnded,
    TrainerInitialized,
)
from runtime._checkpoint_files import checkpoint_path
from runtime._checkpoint_run import write_run
from runtime._learning_rate import set_learning_rate
from runtime._metrics import only_numbers
from runtime._run import Run
from runtime._trainer_run import TrainerRun
from runtime.bridges._needed import lacking
from runtime.bridges._own_run import Closing, OwnRun, RunSettings
from runtime.bridges._transformers_run import begin_run, planned_run

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as _error:
    raise lacking("transformers", '"transformers[torch]"', _error) from _error

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from bus import ReportTo

__all__ = ["BusCallback"]

log: logging.Logger = logging.getLogger("runtime")

_MANY: Final = 2**53


class BusCallback(Closing, TrainerCallback):
    """Each hook becomes an event, each logged entry is delivered to sinks, requests set the flags.

    `Stop`, `Save`, `Evaluate`, `Log` and `SetLearningRate` take effect after a step, at an epoch's
    end or after an evaluation; under torchrun on all ranks at the same step. A `Preempt` saves and
    stops. Sinks name metrics as Transformers' own callbacks do, so leave `report_to` at "none".

    A training that goes on from a checkpoint is the next attempt of the run that saved it. The run
    is closed by `close`, by leaving the context, or when Python exits; a training that an exception
    ended has failed, with the exception's words in the journal where it left the context or nobody
    caught it.

    Args:
        sinks: Where to deliver: names, `bus.Sink` objects, or "all" for every one that is ready.
        run: A run of your own to publish on; closing it is left to you, and nothing else is given.
        name: The run's name; by default `args.run_name`, or that of the output folder.
        project: What it belongs to; by default `args.project`.
        dir: The folder of runs; `runs` in the output folder by default.
        options: Settings of the bus.
        close_timeout: Seconds that closing may take altogether.

    Raises:
        ValueError: Something else is given beside `run`, or it has ended.
    """

    def __init__(
        self,
        sinks: "ReportTo" = None,
        *,
        run: Run | None = None,
        name: str | None = None,
        project: str | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the field's word
        options: BusOptions | None = None,
        close_timeout: float = 30.0,
    ) -> None:
        self._settings = RunSettings(
            name=name,
            project=project,
            dir=dir,
            sinks=sinks,
            options=options,
            close_timeout=close_timeout,
        )
        self.own: OwnRun = self._settings.owned(run, self._plan)
        self._args: TrainingArguments | None = None
        self._model: Any = None
        self._training = False
        self._nothing: Decision | None = None
        self._substep = 0
        self._batch = 0

    @property
    def run(self) -> Run:
        """Its events, journal and decisions; there once the trainer is made.

        Raises:
            RuntimeError: No trainer has this callback yet, so where the run is to be is unknown.
        """
        return self.own.run

    def handle_request(self, request: Request, control: TrainerControl) -> None:
        """Act on a request that took effect; override it for requests of your own kinds.

        Called on the training thread of each rank, for our requests too, whose flags are set by
        then.
        """

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._see(args, more)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._see(args, more)
        self.own.renew()
        begin_run(self.own, args, state)
        self.own.expect("failed")  # until it is over: nobody tells a callback of an exception
        self._training = True
        epochs = state.num_train_epochs
        known = {"max_steps": state.max_steps} if 0 <= state.max_steps < _MANY else {}
        self._announce(TrainBegan, state, **known, epochs=float(epochs) if epochs < _MANY else None)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(EpochBegan, state, epoch=state.epoch or 0.0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._substep = 0
        self._announce(StepBegan, state)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._substep += 1
        self._announce(SubstepEnded, state, substep=self._substep)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(OptimizerStepBegan, state)
        for watch in self.run.watches:
            watch.sample(state.global_step + 1)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(OptimizerStepEnded, state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(StepEnded, state)
        monitor = self.run.active_monitor
        if monitor is not None:
            batches = self._substep + 1
            monitor.step(state.global_step, samples=batches * (state.train_batch_size or 0))
        self._decide(args, state, control, more)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(EpochEnded, state, epoch=state.epoch or 0.0)
        self._decide(args, state, control, more)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **more: object,
    ) -> None:
        if logs:
            self.run.log(logs, step=state.global_step)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(PredictionStepEnded, state, batch=self._batch)
        self._batch += 1

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **more: object,
    ) -> None:
        self._batch = 0
        self._announce(Evaluated, state, metrics=only_numbers(metrics or {}))
        if self._training:
            self._decide(args, state, control, more)

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **more: object,
    ) -> None:
        self._batch = 0
        self._announce(Predicted, state, metrics=only_numbers(metrics or {}))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        path = checkpoint_path(Path(args.output_dir), state.global_step)
        if not (args.should_save and path.is_dir()):
            return
        try:
            write_run(path, self.run.dir, self.run.attempt, path.parent)
        except OSError as error:
            log.warning("%s does not say which run it is of: %s", path, error)
        best = state.best_model_checkpoint
        aliases = ("best",) if best is not None and Path(best) == path else ()
        self._announce(CheckpointSaved, state, path=str(path))
        self.run.artifact(path, kind="checkpoint", aliases=aliases, step=state.global_step)

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._announce(PushBegan, state, target=args.hub_model_id or Path(args.output_dir).name)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        self._training = False
        summary = only_numbers(state.log_history[-1]) if state.log_history else {}
        summary.pop("step", None)
        self._announce(TrainEnded, state, metrics=summary)
        self.own.expect("stopped" if state.global_step < state.max_steps else None)

    def _see(self, args: TrainingArguments, more: Mapping[str, object]) -> None:
        """Learn what the run needs to know of the trainer; a callback may be added late."""
        if self._args is None and self.own.begun:
            self.run.publish(TrainerInitialized())  # the user's own run
        self._args, self._model = args, more.get("model")
        _ = self.run  # so that a sink that cannot be made is an error here

    def _plan(self) -> TrainerRun:
        """A run of the trainer's name, in its folder."""
        if self._args is None:
            raise RuntimeError(
                "the callback has no run yet: its name and folder come from the trainer's "
                "arguments, so ask for it when transformers.Trainer(callbacks=[...]) is made"
            )
        return planned_run(self._settings, self._args, self._model)

    def _announce(self, kind: type[Event], state: TrainerState, **fields: Any) -> None:  # noqa: ANN401 - whatever the event has
        """Publish an event if somebody wants it; only then it is built."""
        run = self.run
        if run.wants(kind):
            run.publish(kind(step=state.global_step, **fields))

    def _decide(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        more: Mapping[str, object],
    ) -> None:
        """Set the flags for what was asked since the last time."""
        decision = self.run.safe_point(state.global_step)
        if decision is self._nothing:
            return
        control.should_training_stop |= decision.stop
        control.should_save |= decision.save or bool(decision.of(Preempt))
        control.should_log |= decision.log
        if decision.evaluate:
            if args.do_eval or more.get("eval_dataloader") is not None:
                control.should_evaluate = True
            else:  # with nothing to evaluate on, the trainer would fail
                log.warning("an evaluation was asked for, and the arguments have do_eval=False")
        if decision.learning_rate is not None:
            optimizer = cast("Optimizer", more["optimizer"])
            set_learning_rate(optimizer, more.get("lr_scheduler"), decision.learning_rate)
        for request in decision.requests:
            self.handle_request(request, control)
        if not decision.requests and not decision.stop:
            self._nothing = decision
