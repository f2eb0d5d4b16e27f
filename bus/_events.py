"""The events of a run's own life, of what is logged beside metrics, and about the bus itself."""

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveInt

from bus._event import Event, Metrics, Text

SinkStatus: TypeAlias = Literal[
    "waiting", "opening", "delivering", "backing off", "suspended", "finished", "ended"
]
"""What a delivery is doing."""

Outcome: TypeAlias = Literal["finished", "failed", "stopped", "preempted", "crashed"]
"""How a run ended; `crashed` is what a reader concludes when nobody could say."""

AnomalyKind: TypeAlias = Literal["nonfinite", "spike"]

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
"""How grave something is."""

JsonObject: TypeAlias = dict[str, JsonValue]
"""Named values of JSON."""


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


class AnomalyDetected(Event):
    """A loss or gradient norm was not finite, or far above its running mean.

    Attributes:
        metric: What was looked at, such as `loss`.
        kind: Which of the two.
        value: What it was.
        z: Standard deviations above the running mean; None for what is not finite.
        action: What is done about it.
    """

    urgent: ClassVar[bool] = True

    type: Literal["anomaly_detected"] = "anomaly_detected"
    metric: Text
    kind: AnomalyKind
    value: float
    z: float | None = None
    action: Literal["alert", "save", "stop"]

    def sentence(self) -> str:
        """Say it for people."""
        height = "" if self.z is None else f", {self.z:.1f} standard deviations above its mean"
        return f"{self.metric} is {self.value:.6g} at step {self.step}{height}"


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


class SinkStateChanged(Event):
    """A destination's health changed.

    Attributes:
        sink: Its name.
        status: What it is at now.
        reason: Why, in the destination's words where there are any.
        url: Where a person can look at the run, once it is known.
    """

    type: Literal["sink_state_changed"] = "sink_state_changed"
    sink: Text
    status: SinkStatus
    reason: Text = ""
    url: Text | None = None
