"""`TrainerCallback`, whose hooks a training loop calls at each of its moments.

Where each hook fires is drawn in the docstring of `bus`, beside the event it is published as.
"""

from typing import TYPE_CHECKING, ClassVar, Final, TypedDict, Unpack

from runtime._logs import Logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.nn import Module
    from torch.optim import Optimizer

    from runtime._arguments import TrainingArguments
    from runtime._schedules import Scheduler
    from runtime._state import TrainerControl, TrainerState


class HookArguments(TypedDict):
    """What every hook is given by keyword.

    Attributes:
        model: The model as the user made it, unwrapped.
        processing_class: What the user gave to prepare data, such as a tokenizer.
        optimizer: The optimizer, once it exists.
        lr_scheduler: The scheduler, once it exists.
        train_dataloader: The loader of the training data, once it exists.
        eval_dataloader: The loader of the evaluation that runs or ran last.
    """

    model: "Module | None"
    processing_class: object
    optimizer: "Optimizer | None"
    lr_scheduler: "Scheduler | None"
    train_dataloader: "Iterable[object] | None"
    eval_dataloader: "Iterable[object] | None"


class LogArguments(HookArguments):
    """What `on_log` is given.

    Attributes:
        logs: The numbers; the callback's own copy. Looking at one that is still on the device
            waits for it.
    """

    logs: Logs


class MetricArguments(HookArguments):
    """What `on_evaluate` and `on_predict` are given.

    Attributes:
        metrics: The results by name.
    """

    metrics: dict[str, float]


class ExceptionArguments(HookArguments):
    """What `on_exception` is given.

    Attributes:
        exception: What ended the training.
    """

    exception: BaseException


class TrainerCallback:
    """Looks at a training from inside its loop and takes decisions; override the hooks you need.

    Hooks run on the training thread, in the order of the callbacks, and the loop waits for them.
    Each is given the arguments, the state and the control by position and the rest by keyword.
    To decide, set flags of `control`; returning it is allowed, not needed. What a hook raises ends
    the training unless the trainer isolates its callbacks.

    Attributes:
        rank_consistent: Whether it sets the same flags at the same steps on every rank of a job,
            because it decides by what is equal everywhere: steps, evaluations, logged losses. Its
            flags are obeyed at once then; those of any other callback become requests, which take
            effect on all ranks at the same, later step.
    """

    rank_consistent: ClassVar[bool] = False

    def on_init_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """The trainer and its state exist; nothing is loaded yet."""

    def on_train_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """Model, optimizer and data are ready, a checkpoint is loaded; the first step is next."""

    def on_train_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """Training is over, its summary logged, the best model loaded if that was asked."""

    def on_epoch_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """A pass over the training data begins."""

    def on_epoch_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """A pass over the training data is over; log, evaluate and save follow if asked."""

    def on_step_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """The first micro-batch of an optimizer step is next; its data is there."""

    def on_substep_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """A micro-batch that is not the last of its step was accumulated."""

    def on_pre_optimizer_step(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """Gradients are clipped; the optimizer steps next."""

    def on_optimizer_step(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """The optimizer has stepped; the gradients are still there."""

    def on_step_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """The step is counted; log, evaluate and save follow if asked."""

    def on_prediction_step(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """One batch of an evaluation or prediction is done."""

    def on_log(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[LogArguments],
    ) -> "TrainerControl | None":
        """Numbers were logged."""

    def on_evaluate(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[MetricArguments],
    ) -> "TrainerControl | None":
        """An evaluation is complete; `state.best_metric` does not know it yet."""

    def on_predict(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[MetricArguments],
    ) -> "TrainerControl | None":
        """A prediction is complete."""

    def on_save(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """A checkpoint was saved."""

    def on_push_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl | None":
        """An upload to a hub begins."""

    def on_exception(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[ExceptionArguments],
    ) -> "TrainerControl | None":
        """Training failed and the exception is about to propagate; ours, not upstream's."""


HOOKS: Final = (
    "on_init_end",
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_substep_end",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_step_end",
    "on_prediction_step",
    "on_log",
    "on_evaluate",
    "on_predict",
    "on_save",
    "on_push_begin",
)
"""Upstream's hooks, which every callback has; `on_exception` is ours and may be missing."""
