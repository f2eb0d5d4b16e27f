"""`CallbackHandler` has a method for each hook: it clears flags in time and calls the callbacks."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from runtime._callback_list import CallbackList
from runtime._callbacks import TrainerCallback
from runtime._default_flow import DefaultFlowCallback
from runtime._state import TrainerControl, TrainerState

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from runtime._arguments import TrainingArguments
    from runtime._schedules import Scheduler

log = logging.getLogger("runtime")

DEFAULT_CALLBACKS: Final[list[type[TrainerCallback]]] = [DefaultFlowCallback]
"""The callbacks every trainer has, before those of its user."""


class CallbackHandler(CallbackList):
    """Calls callbacks one after the other, on the thread that calls it.

    A flag is cleared before the callbacks of its event run, so that they can set it again.

    Args:
        callbacks: Callbacks, or classes to be made without arguments.
        model: What hooks are given as `model`, and so on.
        processing_class: Likewise.
        optimizer: Likewise.
        lr_scheduler: Likewise.

    Raises:
        TypeError: Something among the callbacks is none.
    """

    def __init__(
        self,
        callbacks: "Iterable[TrainerCallback | type[TrainerCallback]]",
        model: "Module | None",
        processing_class: object,
        optimizer: "Optimizer | None",
        lr_scheduler: "Scheduler | None",
    ) -> None:
        super().__init__(model, processing_class, optimizer, lr_scheduler)
        for callback in callbacks:
            self.add_callback(callback)
        if not any(isinstance(each, DefaultFlowCallback) for each in self.callbacks):
            log.warning(
                "no DefaultFlowCallback among the callbacks (%s): unless one of them sees to it, "
                "nothing is logged, evaluated or saved on schedule, and max_steps is not kept",
                self.names(),
            )

    def on_init_end(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_init_end", args, state, control)

    def on_train_begin(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Take back a stop of an earlier training and call the hook."""
        control.should_training_stop = False
        self.look_again()
        return self.call_event("on_train_begin", args, state, control)

    def on_train_end(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_train_end", args, state, control)

    def on_epoch_begin(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Take back the stop of an epoch and call the hook."""
        control.should_epoch_stop = False
        return self.call_event("on_epoch_begin", args, state, control)

    def on_epoch_end(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_epoch_end", args, state, control)

    def on_step_begin(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Take back what was asked for the step before, except stops, and call the hook."""
        control.should_log = False
        control.should_evaluate = False
        control.should_save = False
        return self.call_event("on_step_begin", args, state, control)

    def on_substep_end(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_substep_end", args, state, control)

    def on_pre_optimizer_step(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_pre_optimizer_step", args, state, control)

    def on_optimizer_step(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_optimizer_step", args, state, control)

    def on_step_end(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_step_end", args, state, control)

    def on_prediction_step(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_prediction_step", args, state, control)

    def on_log(
        self,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
    ) -> TrainerControl:
        """Take back the wish to log and call the hook, each callback with a copy of its own."""
        control.should_log = False
        return self.call_event("on_log", args, state, control, logs=logs)

    def on_evaluate(
        self,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
    ) -> TrainerControl:
        """Take back the wish to evaluate and call the hook."""
        control.should_evaluate = False
        return self.call_event("on_evaluate", args, state, control, metrics=metrics)

    def on_predict(
        self,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_predict", args, state, control, metrics=metrics)

    def on_save(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Take back the wish to save and call the hook."""
        control.should_save = False
        return self.call_event("on_save", args, state, control)

    def on_push_begin(
        self, args: "TrainingArguments", state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Call the hook of this name."""
        return self.call_event("on_push_begin", args, state, control)

    def on_exception(
        self,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        exception: BaseException,
    ) -> None:
        """Call the hook of all who have it; what they raise is reported and hides nothing."""
        isolate = self.isolate or _report
        self.call_each("on_exception", isolate, args, state, control, exception=exception)


def _report(callback: object, hook: str, error: Exception) -> None:
    log.error("%s.%s failed", type(callback).__qualname__, hook, exc_info=error)
