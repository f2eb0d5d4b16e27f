"""The catalogue: every event this library publishes, one class per fact.

Where each fires in a training loop is drawn in the docstring of `bus`. The hooks of Transformers'
`TrainerCallback` that each one stands for are named in its docstring.
"""

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveInt

from bus._event import Event, Metrics, Text

Outcome: TypeAlias = Literal["finished", "failed", "stopped", "preempted", "crashed"]
"""How a run ended; `crashed` is what a reader concludes when nobody could say."""

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

JsonObject: TypeAlias = dict[str, JsonValue]


class RunStarted(Event):
    """An attempt at the run began.

    Attributes:
        name: The run's name, which is also its folder's.
        run_id: Its identity across attempts and machines.
        attempt: 1 for a new run, one more at each resume.
        resumed_from_step: The checkpoint's step this attempt goes on from. Events of earlier
            attempts beyond it are superseded.
        previous_outcome: How the attempt before ended, if there was one.
        config: The user's settings, secrets masked.
        facts: Where it runs: versions, host, command, git commit.
    """

    lifecycle: ClassVar[bool] = True
    urgent: ClassVar[bool] = True

    type: Literal["run_started"] = "run_started"
    name: Text
    run_id: str
    project: Text | None = None
    attempt: PositiveInt
    resumed_from_step: NonNegativeInt | None = None
    previous_outcome: Outcome | None = None
    config: JsonObject = Field(default_factory=dict)
    facts: JsonObject = Field(default_factory=dict)


class RunEnded(Event):
    """The attempt is over; the last event of its journal.

    Attributes:
        outcome: How it ended.
        error: The exception's type and message when it failed.
        reason: Who stopped it and why when it was stopped.
        statistics: What the run's own machinery measured, by name, units in the names.
    """

    lifecycle: ClassVar[bool] = True
    urgent: ClassVar[bool] = True

    type: Literal["run_ended"] = "run_ended"
    outcome: Outcome
    error: Text | None = None
    reason: Text | None = None
    statistics: Metrics = Field(default_factory=dict)


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


class ParametersLogged(Event):
    """Settings of the run, which are no time series; later ones add to and replace earlier ones."""

    type: Literal["parameters_logged"] = "parameters_logged"
    parameters: JsonObject


class MetricDefined(Event):
    """How a metric is to be read.

    Attributes:
        name: The metric's key; a trailing `*` covers every key with that prefix.
        unit: Unit of its values, for axes.
        goal: Which direction is better.
        summary: Which of its values stands for the run.
        step_metric: The metric on its x axis instead of the step.
    """

    type: Literal["metric_defined"] = "metric_defined"
    name: Text
    unit: Text | None = None
    goal: Literal["minimize", "maximize"] | None = None
    summary: Literal["min", "max", "mean", "last", "first"] | None = None
    step_metric: Text | None = None


class TextLogged(Event):
    """A text belonging to a key, such as a generated sample in a series."""

    type: Literal["text_logged"] = "text_logged"
    key: Text
    text: Text


class MessageLogged(Event):
    """A line for people following the run."""

    type: Literal["message_logged"] = "message_logged"
    text: Text
    level: Level = "info"


class HistogramLogged(Event):
    """A distribution of values.

    Attributes:
        key: Whose distribution it is.
        counts: Values in each bin.
        edges: The bins' limits, one more than counts, ascending.
    """

    type: Literal["histogram_logged"] = "histogram_logged"
    key: Text
    counts: list[NonNegativeFloat]
    edges: list[float]


class MediaLogged(Event):
    """An image, a sound or a video in a file.

    Attributes:
        key: The series it belongs to.
        path: The file.
        media_type: Its MIME type, such as `image/png`.
        caption: What it shows.
    """

    type: Literal["media_logged"] = "media_logged"
    key: Text
    path: Text
    media_type: str
    caption: Text | None = None


class SummaryLogged(Event):
    """Values that stand for the whole run; later ones replace earlier ones of the same name."""

    type: Literal["summary_logged"] = "summary_logged"
    values: JsonObject


class ConsoleLineLogged(Event):
    """The process wrote a line to its terminal."""

    type: Literal["console_line_logged"] = "console_line_logged"
    text: Text
    stream: Literal["stdout", "stderr"] = "stdout"


class SystemMetricsLogged(Event):
    """Numbers about the machine: utilisation, memory, temperature, energy."""

    type: Literal["system_metrics_logged"] = "system_metrics_logged"
    metrics: Metrics


class AlertRaised(Event):
    """Something a person should look at now."""

    urgent: ClassVar[bool] = True

    type: Literal["alert_raised"] = "alert_raised"
    title: Text
    text: Text = ""
    level: Level = "warning"


class ArtifactReady(Event):
    """A file or folder is complete and may be read or uploaded from now on.

    Attributes:
        path: Where it is.
        kind: What it is, such as `checkpoint`, `model` or `dataset`.
        name: Its name among artifacts of the run.
        aliases: Further names, such as `best`.
        metadata: Anything else about it.
    """

    lifecycle: ClassVar[bool] = True

    type: Literal["artifact_ready"] = "artifact_ready"
    path: Text
    kind: Text
    name: Text
    aliases: tuple[Text, ...] = ()
    metadata: JsonObject = Field(default_factory=dict)


class Gap(Event):
    """Events were lost here, so many and for this reason. Nothing is lost without one.

    Attributes:
        reason: Why, in a few words.
        count: How many.
        first_time: When the first of them was made, in Unix seconds, if known.
        last_time: When the last of them was made.
    """

    lifecycle: ClassVar[bool] = True

    type: Literal["gap"] = "gap"
    reason: str
    count: PositiveInt
    first_time: float | None = None
    last_time: float | None = None


class DecisionApplied(Event):
    """A request took effect at a safe point.

    Attributes:
        request: The request with its own fields.
        by: Who asked.
        reason: Why.
    """

    lifecycle: ClassVar[bool] = True
    urgent: ClassVar[bool] = True

    type: Literal["decision_applied"] = "decision_applied"
    request: JsonObject
    by: Text
    reason: Text = ""


class RequestRefused(Event):
    """A request will not take effect.

    Attributes:
        why: What stood in its way, such as the end of the run.
    """

    lifecycle: ClassVar[bool] = True

    type: Literal["request_refused"] = "request_refused"
    request: JsonObject
    by: Text
    reason: Text = ""
    why: Text


class SubscriberFailed(Event):
    """A live subscriber raised; training and everybody else went on.

    Attributes:
        subscriber: Its name.
        error: The exception's type and message; the traceback is in the log.
        retired: Whether it is gone for good or was started again.
    """

    type: Literal["subscriber_failed"] = "subscriber_failed"
    subscriber: Text
    error: Text
    retired: bool
