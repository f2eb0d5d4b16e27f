"""The events of a training loop: one for each of the 16 hooks of Transformers' `TrainerCallback`.

Each docstring names its hook. Where they fire is drawn in the docstring of `bus`.
"""

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from bus._event import Event, Metrics, Text


class TrainerInitialized(Event):
    """The trainer and its state exist; nothing is loaded yet (on_init_end)."""

    type: Literal["trainer_initialized"] = "trainer_initialized"


class TrainBegan(Event):
    """Model, optimizer and data are ready and the first step is next (on_train_begin).

    Attributes:
        max_steps: Optimizer steps planned in all, if known.
        epochs: Passes over the data planned, if known.
    """

    type: Literal["train_began"] = "train_began"
    max_steps: NonNegativeInt | None = None
    epochs: NonNegativeFloat | None = None


class TrainEnded(Event):
    """Training is over; the best model is loaded if that was asked (on_train_end).

    Attributes:
        metrics: The summary of the whole training.
    """

    type: Literal["train_ended"] = "train_ended"
    metrics: Metrics = Field(default_factory=dict)


class EpochBegan(Event):
    """A pass over the training data begins (on_epoch_begin)."""

    type: Literal["epoch_began"] = "epoch_began"
    epoch: NonNegativeFloat


class EpochEnded(Event):
    """A pass over the training data is over, complete or cut short (on_epoch_end)."""

    type: Literal["epoch_ended"] = "epoch_ended"
    epoch: NonNegativeFloat


class StepBegan(Event):
    """The first micro-batch of an optimizer step is next (on_step_begin). Live only."""

    durable: ClassVar[bool] = False

    type: Literal["step_began"] = "step_began"


class SubstepEnded(Event):
    """A micro-batch that does not complete its step was accumulated (on_substep_end). Live only.

    Attributes:
        substep: Micro-batches of this step so far, this one included.
    """

    durable: ClassVar[bool] = False

    type: Literal["substep_ended"] = "substep_ended"
    substep: PositiveInt


class OptimizerStepBegan(Event):
    """Gradients are clipped, the optimizer steps next (on_pre_optimizer_step). Live only."""

    durable: ClassVar[bool] = False

    type: Literal["optimizer_step_began"] = "optimizer_step_began"


class OptimizerStepEnded(Event):
    """The optimizer has stepped, the gradients are still there (on_optimizer_step). Live only."""

    durable: ClassVar[bool] = False

    type: Literal["optimizer_step_ended"] = "optimizer_step_ended"


class StepEnded(Event):
    """The step is counted and its gradients are gone (on_step_end). Live only.

    Attributes:
        metrics: Host numbers; publishing an event never touches the device.
    """

    durable: ClassVar[bool] = False

    type: Literal["step_ended"] = "step_ended"
    metrics: Metrics = Field(default_factory=dict)


class PredictionStepEnded(Event):
    """One batch of an evaluation or prediction is done (on_prediction_step). Live only."""

    durable: ClassVar[bool] = False

    type: Literal["prediction_step_ended"] = "prediction_step_ended"
    batch: NonNegativeInt | None = None


class MetricsLogged(Event):
    """Numbers were logged (on_log); what `run.log` publishes."""

    type: Literal["metrics_logged"] = "metrics_logged"
    metrics: Metrics


class Evaluated(Event):
    """An evaluation is complete (on_evaluate).

    Attributes:
        metrics: Its results by name.
        dataset: Which of several evaluation sets it was.
    """

    urgent: ClassVar[bool] = True

    type: Literal["evaluated"] = "evaluated"
    metrics: Metrics
    dataset: Text | None = None


class Predicted(Event):
    """A prediction run is complete (on_predict)."""

    type: Literal["predicted"] = "predicted"
    metrics: Metrics = Field(default_factory=dict)


class CheckpointSaved(Event):
    """A checkpoint is complete on disk (on_save).

    Attributes:
        path: Where it is.
        metrics: The numbers it was judged by, if any.
    """

    lifecycle: ClassVar[bool] = True
    urgent: ClassVar[bool] = True

    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    path: Text
    metrics: Metrics = Field(default_factory=dict)


class PushBegan(Event):
    """An upload of the model to a hub begins (on_push_begin).

    Attributes:
        target: Where it goes.
    """

    type: Literal["push_began"] = "push_began"
    target: Text
