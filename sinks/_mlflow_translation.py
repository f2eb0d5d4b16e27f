"""Says in MLflow's terms what the events of a run mean: points, parameters, tags and files.

Nothing here waits or sends. What a run's server holds already is in the `Ledger`; a batch is
translated on top of it and changes it only once it has been taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    RunEnded,
    RunStarted,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
)
from sinks._mlflow_names import Names, legal_key
from sinks._mlflow_plan import Plan
from sinks._mlflow_settings import LogArtifacts
from sinks._mlflow_values import Limits, parameters
from sinks._tracked import (
    HEADINGS,
    MODELS,
    Results,
    all_but,
    definition,
    is_repeated,
    is_wanted,
    kind_of,
    last_name,
    ranked,
    result_name,
)
from sinks._values import compact, flattened, shortened

WANTED: Final = all_but(ConsoleLineLogged, HistogramLogged)


@dataclass(slots=True)
class Ledger:
    """What the run on the server holds, as far as deciding needs.

    Attributes:
        metrics: Names of metrics.
        params: Names of parameters.
        values: Parameters and their values, by name there.
        latest: For each metric the last point of `MetricsLogged`: its step and value.
        mask: For each metric the step up to which an earlier attempt has delivered it.
        checkpoint: The folder of the checkpoint that was announced last.
    """

    metrics: Names
    params: Names
    values: dict[str, str] = field(default_factory=dict[str, str])
    latest: dict[str, tuple[int | None, float]] = field(
        default_factory=dict[str, tuple[int | None, float]]
    )
    mask: dict[str, int] = field(default_factory=dict[str, int])
    checkpoint: str = ""


class Translation:
    """Translates the records of one batch, one after another.

    Args:
        ledger: What the server holds.
        limits: What the server takes at once.
        flatten: Whether nested parameters become `outer.inner`.
        most_params: How many parameters the run may have; None for all.
        log_artifacts: Which files are uploaded.
        keeps_all: Whether all files that wait for the end are kept, not the last of each kind.
        last_files: Files that wait for the run's end: by kind, the place there and the path here.

    Attributes:
        plan: What has to be sent.
        values: Parameters that it sends.
        last_files: As given, and those of this batch.
        masked: Points left out because an earlier attempt delivered theirs.
        left_out: Parameters left out because the run has as many as it may have.
    """

    def __init__(
        self,
        ledger: Ledger,
        limits: Limits,
        *,
        flatten: bool,
        most_params: int | None,
        log_artifacts: LogArtifacts,
        keeps_all: bool = False,
        last_files: Mapping[str, tuple[str, str]],
    ) -> None:
        self.plan = Plan(limits)
        self.values: dict[str, str] = {}
        self.last_files: dict[str, tuple[str, str]] = dict(last_files)
        self.masked = 0
        self.left_out: list[str] = []
        self._ledger = ledger
        self._limits = limits
        self._flatten = flatten
        self._most_params = most_params
        self._log_artifacts: LogArtifacts = log_artifacts
        self._keeps_all = keeps_all

    def add(self, record: Record) -> None:
        """Translate one record."""
        event = record.event
        if isinstance(event, MetricsLogged):
            for key, value in event.metrics.items():
                name = self._metric(record, key, value)
                self._ledger.latest[name] = (event.step, value)
        elif isinstance(event, (Evaluated, Predicted, TrainEnded)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            for key, value in event.metrics.items():
                self._metric(record, key if key.startswith("system/") else f"system/{key}", value)
        elif isinstance(event, (RunStarted, RunEnded)):
            self._life(event)
        elif isinstance(event, ParametersLogged):
            self._parameters(event.parameters)
        elif isinstance(event, (CheckpointSaved, ArtifactReady, MediaLogged)):
            self._file(record, event)
        else:
            self._words(record, event)
        self.plan.next_record()

    def _metric(self, record: Record, key: str, value: float) -> str:
        """Add a point unless an earlier attempt's stands for it; tell its name."""
        name = self._ledger.metrics.of(ranked(key, record.rank))
        step = record.event.step
        if step is not None and step <= self._ledger.mask.get(name, -1):
            self.masked += 1
        else:
            self.plan.metric(name, value, record.event.time, step)
        return name

    def _results(self, record: Record, event: Results) -> None:
        """Add the numbers of an evaluation, unless they have been logged as metrics too."""
        for key, value in event.metrics.items():
            # The epoch says where it was made, as a trainer's other logs do, and is no result.
            named = key if key == "epoch" else result_name(event, key, HEADINGS[event.type])
            logged = self._ledger.latest.get(self._ledger.metrics.of(named))
            if logged != (event.step, value):
                self._metric(record, named, value)

    def _life(self, event: RunStarted | RunEnded) -> None:
        if isinstance(event, RunStarted):
            self.plan.tag("hotloop.attempt", str(event.attempt))
            for key, value in _facts(event.facts).items():
                self.plan.tag(key, value)
            self._parameters(event.config)
            return
        for name, text in (("error", event.error), ("reason", event.reason)):
            if text:
                self.plan.tag(f"hotloop.{name}", text)
        for target, source in self.last_files.values():
            self.plan.upload(target, source=source)

    def _parameters(self, values: Mapping[str, JsonValue]) -> None:
        for key, text in parameters(values, flatten=self._flatten):
            name = self._ledger.params.of(key)
            value = shortened(text, self._limits.param_value)
            before = self.values.get(name, self._ledger.values.get(name))
            if before is None:
                count = len(self._ledger.values.keys() | self.values.keys())
                if self._most_params is not None and count >= self._most_params:
                    self.left_out.append(name)
                    continue
                self.plan.param(name, value)
                self.values[name] = value
            elif before != value:
                self.plan.tag(legal_key(f"changed_param.{name}"), value)

    def _file(self, record: Record, event: CheckpointSaved | ArtifactReady | MediaLogged) -> None:
        source = event.path
        name = last_name(source)
        if isinstance(event, MediaLogged):
            if event.caption:
                self._text(record, "media", event.key, event.caption)
            self.plan.upload(f"media/{_folder(event.key)}/{_place(record)}-{name}", source=source)
            return
        if is_repeated(event, self._ledger):
            return
        target = f"checkpoints/{name}"
        if isinstance(event, ArtifactReady):
            target = f"{_folder(event.kind)}s/{event.name}"
        if is_wanted(event, self._log_artifacts):
            self.plan.upload(target, source=source)
        elif self._log_artifacts == "end":
            kind = kind_of(event)
            last = kind in MODELS and not self._keeps_all
            self.last_files[kind if last else target] = target, source

    def _words(self, record: Record, event: Event) -> None:
        if isinstance(event, TextLogged):
            self._text(record, "texts", event.key, event.text)
        elif isinstance(event, AlertRaised):
            self.plan.tag("alert", f"{event.level}: {event.title}")
            self._text(record, "alerts", event.level, f"{event.title}\n\n{event.text}\n")
        elif isinstance(event, MessageLogged):
            self.plan.tag("message", event.text)
        elif isinstance(event, MetricDefined):
            self.plan.tag(legal_key(f"metric.{event.name}"), compact(definition(event)))
        elif isinstance(event, SummaryLogged):
            self._summary(record, event)

    def _summary(self, record: Record, event: SummaryLogged) -> None:
        for key, value in flattened(event.values, "."):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._metric(record, f"summary/{key}", value)
            else:
                self.plan.tag(
                    legal_key(f"summary.{key}"), value if isinstance(value, str) else compact(value)
                )

    def _text(self, record: Record, folder: str, key: str, text: str) -> None:
        self.plan.upload(f"{folder}/{_folder(key)}/{_place(record)}.txt", text=text)


def _folder(key: str) -> str:
    return legal_key(key).replace("/", "_")


def _place(record: Record) -> str:
    """A file name that is the same at each try and of no other record."""
    step = "run" if record.event.step is None else f"{record.event.step:08d}"
    return f"{step}-a{record.attempt}r{record.rank}-{record.seq}"


def _facts(facts: Mapping[str, JsonValue]) -> dict[str, str]:
    """Tags that MLflow's pages know, and the others under a heading of their own."""
    found: dict[str, str] = {}
    commit, command = facts.get("git_commit"), facts.get("command")
    if isinstance(commit, str):
        found["mlflow.source.git.commit"] = commit
    if isinstance(command, list) and command:
        found["mlflow.source.name"] = str(command[0])
        found["mlflow.source.type"] = "LOCAL"
    for key in ("host", "python", "torch", "cuda", "hotloop", "folder"):
        value = facts.get(key)
        if value is not None:
            found[f"hotloop.{key}"] = str(value)
    return found
