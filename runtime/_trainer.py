"""`Trainer`, with the semantics of Transformers' Trainer on a loop that never waits."""

import logging
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch

from bus import Account, Outcome, Request, SubscriberFailed, TrainerInitialized
from runtime._agreed_flags import AgreedFlags
from runtime._arguments import TrainingArguments
from runtime._callback_handler import DEFAULT_CALLBACKS, CallbackHandler
from runtime._callbacks import TrainerCallback
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._checkpoint_run import run_of
from runtime._checkpoints import PATIENCE
from runtime._destinations import choose_sinks, job_sinks
from runtime._metrics import error_text
from runtime._optimizer_checks import checked_pair
from runtime._outputs import TrainOutput
from runtime._preemption import Preempted, closing_budget
from runtime._process_group import ProcessGroup, leaves_on_failure
from runtime._progress_callbacks import PrinterCallback, ProgressCallback
from runtime._requeue import request_requeue
from runtime._run import Run
from runtime._schedules import Scheduler
from runtime._seeds import set_seed
from runtime._state import TrainerControl, TrainerState
from runtime._trainer_base import ComputeLoss, ComputeMetrics, PreprocessLogits
from runtime._trainer_checks import check_trainer
from runtime._trainer_given import (
    check_run,
    check_sinks,
    checked_arguments,
    checked_callbacks,
    made_model,
)
from runtime._trainer_run import TrainerRun
from runtime._trainer_saving import read_state
from runtime._trainer_setup import (
    prepare_process,
    run_settings,
)
from runtime._trainer_training import Training

if TYPE_CHECKING:
    from bus import ReportTo

log = logging.getLogger("runtime")


class Trainer(Training):
    """Trains a module, with the arguments, hooks, flags and methods of Transformers' Trainer.

    Each hook is an event on `trainer.run` too, logged numbers reach its sinks, and what is asked
    through its control channel sets the flags that callbacks set. No step waits for a device, a
    disk or a network. Use it as a context manager, or call `close`; an open run is closed at exit.

    Not there: hyper-parameter search and DeepSpeed.

    Args:
        model: Any module. It gets a batch's mapping as keyword arguments (or its tuple as
            positional ones) and returns its loss; see `compute_loss` for the other ways.
        args: The settings; `TrainingArguments()` by default.
        data_collator: Makes a batch of samples; `default_data_collator` by default.
        train_dataset: Samples by index, or an iterable of them.
        eval_dataset: The same to evaluate on, or several by name.
        processing_class: What prepares the samples, such as a tokenizer; saved beside the model.
        model_init: Makes the model anew for each `train`, instead of `model`.
        compute_loss_func: Called with the model's outputs, the labels and `num_items_in_batch`.
        compute_metrics: Makes an evaluation's metrics of an `EvalPrediction`.
        callbacks: Added behind `DEFAULT_CALLBACKS`; classes or objects.
        optimizers: An optimizer and a schedule to use instead of those the arguments name.
        optimizer_cls_and_kwargs: A class of optimizers and its settings, instead of a name.
        preprocess_logits_for_metrics: Called with an evaluation batch's logits and labels; what it
            returns is kept instead of the logits.
        sinks: Where to deliver the run, beside `args.report_to`: names or `bus.Sink` objects.
        run: A run of your own to publish on; closing it is left to you. By default the trainer
            makes one in `<output_dir>/runs`, goes on with it when training is resumed, and closes
            it.

    Raises:
        ValueError: Arguments, model and data do not go together; the message says what to change.
        TypeError: Something is of a kind that cannot be used.
    """

    @leaves_on_failure
    def __init__(  # noqa: PLR0917 - upstream's order, which people rely on
        self,
        model: torch.nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,  # noqa: ANN401 - anything with samples
        eval_dataset: Any = None,  # noqa: ANN401 - as above
        processing_class: Any = None,  # noqa: ANN401 - a tokenizer of any library
        model_init: Callable[[], torch.nn.Module] | None = None,
        compute_loss_func: ComputeLoss | None = None,
        compute_metrics: ComputeMetrics | None = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Scheduler | None] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: PreprocessLogits | None = None,
        *,
        sinks: "ReportTo" = None,
        run: Run | None = None,
    ) -> None:
        args = checked_arguments(args)
        self.args: TrainingArguments = args
        self._group = ProcessGroup(args)
        self.device: torch.device = args.device
        prepare_process(args)
        self.model_init = model_init
        self.model: torch.nn.Module = self._first_model(model)
        self.model_wrapped: torch.nn.Module = self.model
        self._model_evaluated: torch.nn.Module = self.model
        self.train_dataset: Any = train_dataset
        self.eval_dataset: Any = eval_dataset
        self.processing_class = processing_class
        self.data_collator = data_collator
        self.compute_loss_func: ComputeLoss | None = compute_loss_func
        self.compute_metrics: ComputeMetrics | None = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self._given_optimizers = checked_pair(optimizers)
        self.optimizer: torch.optim.Optimizer | None = self._given_optimizers[0]
        self.lr_scheduler: Scheduler | None = self._given_optimizers[1]
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        check_run(run)
        check_trainer(self)
        self._examine_model()
        self.is_in_train: bool = False
        self._train_batch_size = args.train_batch_size
        self.control: TrainerControl = TrainerControl()
        self.state: TrainerState = TrainerState(
            is_world_process_zero=self.is_world_process_zero(),
            is_local_process_zero=self.is_local_process_zero(),
        )
        self._eval_loaders = {}
        self._start_counting(None)
        self.callback_handler: CallbackHandler = self._make_handler(callbacks)
        self._owns_run, self._given_sinks = run is None, sinks
        self._run = run if run is not None else self._plan_run()
        self._checkpoints = self._make_checkpoints()
        self._rank_states = self._make_rank_states()
        if not self._group.alone:
            self.callback_handler.agreed = AgreedFlags(self._ask)
        self.call_hook("on_init_end")
        self._announce_init()

    @property
    def run(self) -> Run:
        """Its events, journal and decisions; the trainer closes it unless it was handed in."""
        return self._run

    def train(
        self,
        resume_from_checkpoint: "str | os.PathLike[str] | bool | None" = None,
        *,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train until the end that the arguments give, or until a flag or a request stops it.

        Args:
            resume_from_checkpoint: A checkpoint's folder to go on from, or True for the newest one
                in `output_dir` that is intact.
            ignore_keys_for_eval: Keys of the model's outputs that evaluations leave out.

        Returns:
            The steps taken, the mean loss of those of this call, and the summary.

        Raises:
            ValueError: There is no such checkpoint, or the data and the arguments do not say when
                to end.
            CheckpointError: The checkpoint is damaged; the message names the file.
            Preempted: SIGTERM, SIGUSR1 or a request for it; a `SystemExit`, so that the process
                ends. What could be saved is, and the trainer's own run is closed.
        """
        if self.is_in_train:
            raise RuntimeError(
                "train() is under way already and cannot begin within itself; let it end first, "
                "for example with control.should_training_stop"
            )
        self._gather("train")
        self.is_in_train = True
        self._ignore_keys = ignore_keys_for_eval
        catches_already = self._run.catches_signals
        try:
            if self.model_init is not None:
                set_seed(self.args.seed)
                self._set_model(made_model(self.model_init))
            checkpoint = self.find_checkpoint(resume_from_checkpoint)
            self._train_batch_size = self._found_batch_size(checkpoint)
            self._begin_run(checkpoint)
            self._run.catch_signals(grace_seconds=self.args.grace_seconds)
            self.begin_pushes()
            with self._run.phase("preparing"):  # the loop says when it is at its steps
                output = self._train_until_it_fits(checkpoint)
        except Preempted as leaving:
            self._leave(leaving)
            raise
        except BaseException as error:
            instead = self.preempted_by(error) if isinstance(error, Exception) else None
            if instead is not None:
                self._leave(instead)
                raise instead from error
            self._fail(error)
            raise
        finally:
            self.is_in_train = False
            if not catches_already:
                self._run.release_signals()
            if self._feed is not None:
                self._feed.close()  # or its workers would live on
        if isinstance(self._run, TrainerRun):
            early = output.global_step < self.state.max_steps
            self._run.expected = "stopped" if early else None
        return output

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Add a callback behind the others; a class is made without arguments."""
        self.callback_handler.add_callback(callback)

    def pop_callback(
        self, callback: TrainerCallback | type[TrainerCallback]
    ) -> TrainerCallback | None:
        """Remove and return a callback, the first of a class; None if there is none."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Remove a callback, the first of a class."""
        self.callback_handler.remove_callback(callback)

    def close(self, outcome: Outcome | None = None) -> Account | None:
        """Finish saving, and end the trainer's own run with its account; once is enough.

        Args:
            outcome: How it ended; by default what can be seen: stopped if training was ended before
                its last step, otherwise finished.
        """
        self.finish_pushes()
        self._checkpoints.close()
        account = None
        if self._owns_run:
            account = self._run.close(outcome)
            self._forget_uploaded()
        self._group.leave()
        return account

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self._owns_run:
            self.finish_pushes(self._run.close_timeout)
            self._checkpoints.close()
            self._run.close(error=error)
            self._forget_uploaded()
            self._group.leave()
        else:
            self.close()

    def _fail(self, error: BaseException) -> None:
        """Training ends with an exception: tell the callbacks and the journal."""
        self._tell_exception(error)
        if self._rank_states is not None:
            self._rank_states.give_up()
        self.finish_pushes(self._run.close_timeout)
        self._checkpoints.wait(self._run.close_timeout)
        if self._owns_run:
            self._run.close(error=error)

    def _leave(self, leaving: Preempted) -> None:
        """Training ends because the machine is wanted: finish within what the deadline leaves."""
        request, patience = leaving.request, self._run.close_timeout
        self._tell_exception(leaving)
        self.wait_for_checkpoint(request, closing_budget(request, PATIENCE))
        self.finish_pushes(closing_budget(request, patience))
        if self._owns_run:
            self._run.close(error=leaving)
        if self.args.requeue:
            request_requeue(closing_budget(request, patience))

    def _tell_exception(self, error: BaseException) -> None:
        try:
            # No flag matters any more, so this hook gives none back.
            self.callback_handler.on_exception(self.args, self.state, self.control, exception=error)
        except Exception:  # the first exception is the one to hear of
            log.exception("a callback failed while it was told of an exception")

    def _forget_uploaded(self) -> None:
        """Delete what rotation has left to a sink that read it, now that all have ended."""
        self._checkpoints.rotate()
        self._checkpoints.close()

    # The parts that a trainer is made of.

    def _first_model(self, model: torch.nn.Module | None) -> torch.nn.Module:
        if (model is None) == (self.model_init is None):
            given = "neither was given" if model is None else "both were given"
            raise ValueError(
                f"a trainer needs either model=... or model_init=..., and {given}; pass one"
            )
        return self._placed(model if model is not None else made_model(self.model_init))

    def _make_handler(
        self, callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None
    ) -> CallbackHandler:
        last = PrinterCallback if self.args.disable_tqdm else ProgressCallback
        handler = CallbackHandler(
            [*DEFAULT_CALLBACKS, *checked_callbacks(callbacks)],
            self.model,
            self.processing_class,
            self.optimizer,
            self.lr_scheduler,
        )
        handler.add_callback(last)
        if not self.args.raise_from_callbacks:
            handler.isolate = self._report_callback
        return handler

    def _ask(self, request: Request) -> None:
        self.run.control.request(request)  # of the present run: a later training has its own

    def _report_callback(self, callback: object, hook: str, error: Exception) -> None:
        name = type(callback).__qualname__
        log.error("%s.%s raised and training goes on", name, hook, exc_info=error)
        self.run.publish(
            SubscriberFailed(subscriber=f"{name}.{hook}", error=error_text(error), retired=False)
        )

    def _plan_run(self) -> TrainerRun:
        args, output = self.args, self.output_dir
        chosen = [*choose_sinks(args.report_to), *choose_sinks(self._given_sinks)]
        chosen += job_sinks(chosen)
        check_sinks(chosen)
        return TrainerRun(
            args.run_name or output.resolve().name or "run",
            project=args.project,
            dir=(output / "runs").absolute(),
            config=run_settings(self.model, args),
            sinks=chosen,
            watchdog=args.watchdog_seconds,
        )

    def _announce_init(self) -> None:
        event = TrainerInitialized()
        if isinstance(self._run, TrainerRun) and not self._run.begun:
            self._run.opening = (event,)
        else:
            self._run.publish(event)

    def _begin_run(self, checkpoint: LoadedCheckpoint | None) -> None:
        """Begin the run, or the next attempt at the run that made the checkpoint."""
        if self._owns_run and self._run.closed:  # training failed, or the trainer was closed
            self._run = self._plan_run()
            self._announce_init()
        if isinstance(self._run, TrainerRun):
            folder, step, first = None, None, self.is_world_process_zero()
            if checkpoint is not None:  # the first process tells the others which run it is
                folder = run_of(checkpoint.path, self._run.parent) if first else None
                step = read_state(checkpoint).global_step
            self._run.begin(folder, step if folder is not None or not first else None)
