"""Says in ClearML's terms what the events of a run mean: points, parameters, lines and files.

Nothing here waits or sends.
"""

import math
from collections.abc import Mapping
from pathlib import PurePath
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
from sinks._clearml_plan import Plan, Upload
from sinks._clearml_settings import LogModel
from sinks._clearml_state import LastFile, Memory
from sinks._clearml_values import (
    NO_ITERATION,
    SINGLE,
    SUMMARY,
    Item,
    chart,
    histogram,
    monitor,
    parameters,
)
from sinks._tracked import (
    HEADINGS,
    MODELS,
    Results,
    all_but,
    is_repeated,
    is_wanted,
    kind_of,
    result_name,
)
from sinks._values import milliseconds

WANTED: Final = all_but(MetricDefined)

NOT_FINITE: Final = "not finite"
"""The chart that counts values which ClearML cannot store, a line for each series."""


class Translation:
    """Translates the records of one batch, one after another.

    Args:
        memory: What the sink remembers; changed as records are added.
        task_id: The task.
        log_model: Which files are uploaded.

    Attributes:
        plan: What has to be sent.
    """

    def __init__(self, memory: Memory, *, task_id: str, log_model: LogModel) -> None:
        self.plan = Plan(memory.counts)
        self._memory = memory
        self._task_id = task_id
        self._log_model: LogModel = log_model
        self._lost: dict[tuple[int, str, str], tuple[int, float, Event]] = {}

    def add(self, record: Record) -> None:
        """Translate one record."""
        event = record.event
        if self._memory.began is None:
            self._memory.began = event.time
        if isinstance(event, MetricsLogged):
            for key, value in event.metrics.items():
                self._metric(record, key, value)
        elif isinstance(event, (Evaluated, Predicted, TrainEnded)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            seconds = max(0, int(event.time - self._memory.began))
            iteration = seconds if event.step is None else event.step
            for key, value in event.metrics.items():
                self._point(record, monitor(key, record.rank), iteration, value)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._file(event)
        elif isinstance(event, (MediaLogged, HistogramLogged)):
            self._picture(record, event)
        elif isinstance(event, (RunStarted, ParametersLogged, SummaryLogged, RunEnded)):
            self._settings(record, event)
        else:
            self._words(record, event)
        self.plan.next_record()

    def end(self) -> None:
        """Say of each series how many of its values are no numbers that ClearML stores."""
        for (rank, title, line), (count, value, event) in self._lost.items():
            values = "1 value is" if count == 1 else f"{count} values are"
            words = f"{title}/{line}: {values} not finite, and so not stored (last: {value})"
            self._log(event, words, "warning", rank)
        self._lost = {}

    def _metric(self, record: Record, key: str, value: float) -> None:
        title, line = chart(key, record.rank)
        if key in SINGLE and not record.rank:
            self._point(record, (SUMMARY, key), NO_ITERATION, value)
        else:
            self._point(record, (title, line), self._iteration(record.event, title, line), value)

    def _iteration(self, event: Event, title: str, line: str) -> int:
        """The step; a point without one is counted, or the next would replace it."""
        if event.step is not None:
            return event.step
        counts, name = self._memory.counts, f"point {title}/{line}"
        counts[name] = counts.get(name, -1) + 1
        return counts[name]

    def _point(self, record: Record, place: tuple[str, str], iteration: int, value: float) -> None:
        title, line = place
        if not math.isfinite(value):
            counts, name = self._memory.counts, f"{NOT_FINITE} {title}/{line}"
            counts[name] = counts.get(name, 0) + 1
            before = self._lost.get((record.rank, title, line), (0, value, record.event))[0]
            self._lost[record.rank, title, line] = before + 1, value, record.event
            title, line, value = NOT_FINITE, f"{title}/{line}", counts[name]
        event = self._event(record.event, "training_stats_scalar")
        event |= {"iter": iteration, "metric": title, "variant": line, "value": value}
        self.plan.point(event)

    def _results(self, record: Record, event: Results) -> None:
        """Add the numbers of an evaluation; one that was logged as a metric too is the same."""
        for key, value in event.metrics.items():
            named = key if key in SINGLE else result_name(event, key, HEADINGS[event.type])
            self._metric(record, named, value)

    def _settings(
        self, record: Record, event: RunStarted | ParametersLogged | SummaryLogged | RunEnded
    ) -> None:
        if isinstance(event, RunEnded):
            self._memory.error, self._memory.reason = event.error or "", event.reason or ""
        elif isinstance(event, SummaryLogged):
            self._summary(record, event)
        else:
            values = event.config if isinstance(event, RunStarted) else event.parameters
            self._parameters(values, "General")

    def _parameters(self, values: Mapping[str, JsonValue], section: str) -> None:
        for item in parameters(values, section):
            self.plan.parameter(item)

    def _summary(self, record: Record, event: SummaryLogged) -> None:
        for key, value in event.values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._point(record, (SUMMARY, key), NO_ITERATION, value)
            else:
                self._parameters({key: value}, SUMMARY)

    def _file(self, event: CheckpointSaved | ArtifactReady) -> None:
        if is_repeated(event, self._memory):
            return
        kind = kind_of(event)
        name = event.name if isinstance(event, ArtifactReady) else PurePath(event.path).name
        model = kind in MODELS
        file: LastFile = ("model" if model else "artifact", name, event.path, event.step or 0)
        if is_wanted(event, self._log_model):
            self.plan.upload(Upload(*file, checkpoint=kind == "checkpoint"))
        elif self._log_model == "end":
            # Of models the last one of a kind, of artifacts each.
            self._memory.last_files[kind if model else f"artifact {name}"] = file

    def _picture(self, record: Record, event: MediaLogged | HistogramLogged) -> None:
        title, line = chart(event.key, record.rank)
        kind = "training_debug_image" if isinstance(event, MediaLogged) else "plot"
        iteration = self._iteration(event, title, line)
        place = self._event(event, kind)
        place |= {"iter": iteration, "metric": title, "variant": line}
        if isinstance(event, HistogramLogged):
            place["plot_str"] = histogram(title, line, event.counts, event.edges)
            self.plan.other(place)
            return
        self.plan.upload(Upload("media", title, event.path, iteration, event=place))
        if event.caption:
            self._log(event, f"{event.key}: {event.caption}", "info", record.rank)

    def _words(self, record: Record, event: Event) -> None:
        if isinstance(event, TextLogged):
            at = "" if event.step is None else f" at step {event.step}"
            self._log(event, f"{event.key}{at}: {event.text}", "info", record.rank)
        elif isinstance(event, AlertRaised):
            words = f"{event.title}: {event.text}" if event.text else event.title
            self._log(event, words, event.level, record.rank)
        elif isinstance(event, MessageLogged):
            self._log(event, event.text, event.level, record.rank)
        elif isinstance(event, ConsoleLineLogged):
            level = "error" if event.stream == "stderr" else "info"
            self._log(event, event.text, level, record.rank)

    def _log(self, event: Event, text: str, level: str, rank: int) -> None:
        line = self._event(event, "log")
        self.plan.log(line | {"level": level, "worker": f"rank{rank}", "msg": text})

    def _event(self, event: Event, kind: str) -> Item:
        return {"type": kind, "task": self._task_id, "timestamp": milliseconds(event.time)}
