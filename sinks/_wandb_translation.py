"""Says in W&B's terms what the events of a run mean: rows, configuration, summary, files, alerts.

Nothing here waits or sends. Each event with numbers, a text or a histogram is a row of its own,
numbered on its own, with the global step in it, as Transformers' callback logs: so whatever order
steps come in, the server never drops a row for it.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from bus import (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    ConsoleLineLogged,
    Evaluated,
    Event,
    HistogramLogged,
    MediaLogged,
    MessageLogged,
    MetricDefined,
    MetricsLogged,
    ParametersLogged,
    Predicted,
    Record,
    RejectedError,
    RunEnded,
    RunStarted,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
    TrainerInitialized,
)
from sinks._scalars import rewritten
from sinks._tracked import TRACKED, beyond, definition, result_name
from sinks._values import compact
from sinks._wandb_media import Media
from sinks._wandb_models import artifact_of, final, model_of
from sinks._wandb_plan import Alert, Plan, StoreArtifact, StoreFile
from sinks._wandb_rows import Rows
from sinks._wandb_settings import WandbSettings
from sinks._wandb_state import Memory, Upload
from sinks._wandb_summary import Summary
from sinks._wandb_values import (
    LARGEST_CONFIG,
    configuration,
    console_line,
    decoded,
    histogram,
    system_key,
)

WANTED: Final[tuple[type[Event], ...]] = (*TRACKED, TrainerInitialized)

_TOTALS: Final = frozenset(
    {
        *("train_runtime", "train_samples_per_second", "train_steps_per_second"),
        *("train_loss", "total_flos"),
    }
)
"""What Transformers' callback puts into the summary instead of a row."""

_ENDINGS: Final = frozenset({"outcome", "error", "reason"})
"""What the configuration says of an attempt's end."""

_SEVERITIES: Final = {"warning": "WARN", "error": "ERROR"}


class Translation:
    """Translates the records of one batch, one after another.

    Args:
        memory: What was acknowledged; changed to what will be when all steps are.
        settings: How the run is to be shown.
        media: What is known of the files of the batch's media, by record.

    Attributes:
        plan: What has to be sent.
    """

    def __init__(self, memory: Memory, settings: WandbSettings, media: Mapping[int, Media]) -> None:
        self._summary = Summary(memory)
        self.plan = Plan(memory, self._summary)
        self._rows = Rows(memory, self._summary, self.plan)
        self._memory = memory
        self._settings = settings
        self._media = media
        self._config = decoded(memory.config)

    def add(self, record: Record) -> None:
        """Translate one record.

        Raises:
            RejectedError: It is larger than the server takes.
        """
        event = record.event
        if isinstance(event, MetricsLogged):
            self._metrics(record, event.metrics)
        elif isinstance(event, (Evaluated, Predicted)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            row = {system_key(key): value for key, value in event.metrics.items()}
            self.plan.event(compact({**row, "_wandb": True, **self._rows.times(event)}))
        elif isinstance(event, (RunStarted, ParametersLogged, MetricDefined)):
            self._configure(event)
        elif isinstance(event, (TextLogged, HistogramLogged, MediaLogged)):
            self._shown(record, event)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._stored(event)
        elif isinstance(event, TrainerInitialized):
            self._memory.trainer = True
        else:
            self._words(record, event)
        self.plan.next_record()

    def _metrics(self, record: Record, metrics: Mapping[str, float]) -> None:
        totals: dict[str, JsonValue] = {}
        if self._rewrites():
            totals = {key: value for key, value in metrics.items() if key in _TOTALS}
        if totals:
            self._summary.override(totals)
        self._rows.add(record, {self._name(k): v for k, v in metrics.items() if k not in totals})

    def _results(self, record: Record, event: Evaluated | Predicted) -> None:
        """Add the numbers of an evaluation, unless they have been logged as metrics too."""
        heading = "eval" if isinstance(event, Evaluated) else "test"
        row: dict[str, JsonValue] = {}
        for key, value in event.metrics.items():
            logged = self._name(key)
            if self._rows.has(record, logged):
                continue
            named = result_name(event, key, heading)
            row[logged if named == key else named] = value
        self._rows.add(record, {key: row[key] for key in row if not self._rows.has(record, key)})

    def _rewrites(self) -> bool:
        wanted = self._settings.rewrite
        return self._memory.trainer if wanted is None else wanted

    def _name(self, key: str) -> str:
        return rewritten(key) if self._rewrites() and key not in _TOTALS else key

    def _configure(self, event: RunStarted | ParametersLogged | MetricDefined) -> None:
        memory = self._memory
        if isinstance(event, MetricDefined):
            told = {key: each for key, each in definition(event).items() if key != "unit"}
            memory.defined = {**memory.defined, event.name: told}
        elif isinstance(event, ParametersLogged):
            self._config.update(event.parameters)
        else:
            self._begin(event)
            self._config.update(event.config)
        self._reconfigure()

    def _begin(self, started: RunStarted) -> None:
        """Note at the beginning of an attempt what those before it have delivered."""
        memory = self._memory
        kept = {key: each for key, each in memory.about.items() if key not in _ENDINGS}
        memory.about = {**kept, "attempt": started.attempt}
        if started.attempt <= memory.masked_for:
            return
        memory.masked_for = started.attempt
        memory.mask = beyond(started, memory.delivered)
        runtime = self._summary.value("_runtime")
        if isinstance(runtime, (int, float)):
            memory.started = started.time - runtime

    def _reconfigure(self) -> None:
        memory = self._memory
        text = configuration(self._config, dict(memory.about), memory.defined)
        if len(text.encode()) > LARGEST_CONFIG:
            raise RejectedError(
                f"a configuration of {len(text)} characters; W&B takes {LARGEST_CONFIG} bytes",
                guilty=(self.plan.records,),
            )
        memory.config = compact(self._config)
        self.plan.config = text

    def _shown(self, record: Record, event: TextLogged | HistogramLogged | MediaLogged) -> None:
        if isinstance(event, TextLogged):
            self._rows.add(record, {event.key: event.text})
        elif isinstance(event, HistogramLogged):
            self._rows.add(record, {event.key: histogram(event)})
        elif (media := self._media.get(self.plan.records)) is None:
            self._rows.drop("the media file is gone, or of a kind that W&B does not show")
        else:
            name = media.place(event.key, self._memory.step)
            self.plan.add(StoreFile(media.path, name, record=self.plan.records))
            self._memory.uploaded = [*self._memory.uploaded, name]
            self._rows.add(record, {event.key: media.value(name, event.caption)})

    def _stored(self, event: CheckpointSaved | ArtifactReady) -> None:
        if isinstance(event, ArtifactReady) and event.kind != "checkpoint":
            self._store(artifact_of(event))
            return
        label = self._settings.run_name or self._memory.run_id or ""
        upload = model_of(event, label, self._summary.numbers())
        if self._settings.log_model != "false":
            self._memory.last = upload
        if self._settings.log_model == "checkpoint":
            self._store(upload)

    def _end(self, event: RunEnded) -> None:
        told = {"error": event.error, "reason": event.reason}
        about = {key: value for key, value in told.items() if value}
        self._memory.about = {**self._memory.about, **about}
        if (last := self._memory.last) is not None:
            self._memory.last = None
            self._store(final(last))

    def _store(self, upload: Upload) -> None:
        self.plan.add(StoreArtifact(upload, record=self.plan.records))

    def _words(self, record: Record, event: Event) -> None:
        label = f"rank{record.rank}" if record.rank else ""
        if isinstance(event, ConsoleLineLogged):
            error = event.stream == "stderr"
            self._console(event, event.text, error=error, label=label)
        elif isinstance(event, MessageLogged):
            self._console(event, event.text, error=event.level == "error", label=label)
        elif isinstance(event, AlertRaised):
            severity = _SEVERITIES.get(event.level, "INFO")
            self.plan.add(Alert(event.title, event.text, severity, record=self.plan.records))
        elif isinstance(event, SummaryLogged):
            self._summary.override(event.values)
        elif isinstance(event, TrainEnded):
            self._summary.override({self._name(key): v for key, v in event.metrics.items()})
        elif isinstance(event, RunEnded):
            self._end(event)

    def _console(self, event: Event, text: str, *, error: bool, label: str) -> None:
        for line in text.split("\n"):
            self.plan.console(console_line(event.time, line, error=error, label=label))
