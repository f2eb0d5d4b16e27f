"""Says in Neptune's terms what the events of a run mean: fields, series, tags and files.

Nothing here waits or sends. What Neptune would refuse is left out and counted.
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
    RunEnded,
    RunStarted,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
)
from sinks._neptune_ledger import Ledger
from sinks._neptune_plan import Plan
from sinks._neptune_settings import NeptuneSettings
from sinks._neptune_values import (
    LONGEST_STRING,
    assignment,
    fields,
    measured,
    metric_name,
    number,
    path,
    pieces,
)
from sinks._tracked import Results, all_but, definition, last_name, result_name
from sinks._values import spelled

WANTED: Final = all_but(HistogramLogged)

CUT: Final = "a text that was cut at 16,384 characters"
NOT_FINITE: Final = "NaN or infinite, which Neptune cannot store"

_RESULTS: Final = {"evaluated": "eval", "predicted": "test", "train_ended": ""}
_FACTS: Final = ("git_commit", "hotloop", "python", "torch", "cuda", "platform", "folder")


class Translation:
    """Translates the records of one batch, one after another.

    Args:
        ledger: What the server holds; changed by what is added.
        settings: What is wanted, and how.

    Attributes:
        plan: What has to be sent.
    """

    def __init__(self, ledger: Ledger, settings: NeptuneSettings) -> None:
        self.plan = Plan()
        self._ledger = ledger
        self._settings = settings

    def add(self, record: Record) -> None:
        """Translate one record."""
        event = record.event
        if isinstance(event, MetricsLogged):
            for key, value in event.metrics.items():
                place = self._metric(record, metric_name(key), value)
                self._ledger.latest[place] = (event.step, value)
        elif isinstance(event, (Evaluated, Predicted, TrainEnded)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            for key, value in event.metrics.items():
                place = self._place(record, "monitoring", key.removeprefix("system/"))
                self._number(place, value, None, event.time)
        elif isinstance(event, (RunStarted, RunEnded)):
            self._life(record, event)
        elif isinstance(event, ParametersLogged):
            self._parameters(record, event.parameters)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._folder(record, event)
        else:
            self._words(record, event)
        self.plan.next_record()

    def _place(self, record: Record, *parts: str) -> str:
        """A path in the namespace of the record's rank."""
        if parts[0] == "monitoring":
            return path(self._settings.monitoring_namespace, _rank(record), *parts[1:])
        return path(self._settings.base_namespace, _rank(record), *parts)

    def _metric(self, record: Record, name: str, value: float) -> str:
        """Add a point of a metric; tell its path."""
        place = self._place(record, name)
        if name == "train/epoch":
            self._assign(place, value)  # no series, as Transformers' callback has it
        else:
            self._number(place, value, record.event.step, record.event.time)
        return place

    def _number(self, place: str, value: float, step: int | None, time: float) -> None:
        written = number(value, self._settings.dialect)
        if written is not None:
            self._point(place, "logFloats", written, step, time)
        elif self._settings.nonfinite == "text":
            self._point(f"{place}_nonfinite", "logStrings", spelled(value), step, time)
        else:
            self.plan.marks.dropped[NOT_FINITE] += 1

    def _point(
        self, place: str, action: str, value: float | str, step: int | None, time: float
    ) -> None:
        """Add a point where it may be added, after the series' last one."""
        found = self._after(place, step, time, several=action == "logStrings")
        if found is not None:
            self.plan.point(place, action, value, *found)

    def _after(
        self, place: str, step: int | None, time: float, *, several: bool
    ) -> tuple[float, int] | None:
        """The step and the time of a further point; None if there must be none."""
        found = self._ledger.after(place, step, time, several=several)
        if isinstance(found, str):
            self.plan.marks.dropped[found] += 1
            return None
        self.plan.marks.series[place] = found
        return found

    def _text(self, place: str, text: str, step: int | None, time: float) -> None:
        for piece in pieces(text):
            self._point(place, "logStrings", piece, step, time)

    def _assign(self, place: str, value: JsonValue) -> None:
        if isinstance(value, str) and len(value) > LONGEST_STRING:
            self.plan.marks.dropped[CUT] += 1
        self.plan.assign(place, assignment(value, self._settings.dialect))

    def _results(self, record: Record, event: Results) -> None:
        """Add the numbers of an evaluation, unless they have been logged as metrics too."""
        heading = _RESULTS[event.type]
        for key, value in event.metrics.items():
            named = key if key == "epoch" else result_name(event, key, heading)
            name = metric_name(key) if named == key else named
            place = self._place(record, name)
            if self._ledger.latest.get(place) != (event.step, value):
                self._metric(record, name, value)

    def _life(self, record: Record, event: RunStarted | RunEnded) -> None:
        if isinstance(event, RunEnded):
            for name, text in (("error", event.error), ("reason", event.reason)):
                if text:
                    self._assign(path("hotloop", _rank(record), name), text)
            return
        if not record.rank:
            self._began(event)
        self._parameters(record, event.config)

    def _began(self, event: RunStarted) -> None:
        settings = self._settings
        own = settings.with_id is None  # a run that was there keeps its name
        if own or settings.name:
            self._assign("sys/name", settings.name or event.name)
        self._assign("sys/failed", value=False)
        if settings.description or (own and event.attempt == 1):
            self._assign("sys/description", settings.description)
        for place, names in (("sys/tags", settings.tags), ("sys/group_tags", settings.group_tags)):
            if names:
                self.plan.assign(place, {"insertStrings": {"values": list(names)}})
        command, host = event.facts.get("command"), event.facts.get("host")
        if isinstance(command, list) and command:
            entrypoint = str(command[0]).replace("\\", "/").rpartition("/")[2]
            self._assign("source_code/entrypoint", entrypoint)
        if isinstance(host, str):
            self._assign("sys/hostname", host)
        self._assign("hotloop/run_id", event.run_id)
        self._assign("hotloop/attempt", event.attempt)
        for key in _FACTS:
            if (value := event.facts.get(key)) is not None:
                self._assign(path("hotloop", "version" if key == "hotloop" else key), str(value))

    def _parameters(self, record: Record, values: Mapping[str, JsonValue]) -> None:
        if self._settings.log_parameters:
            for place, value in fields(values, self._place(record, "trainer_parameters")):
                self._assign(place, value)

    def _folder(self, record: Record, event: CheckpointSaved | ArtifactReady) -> None:
        name = last_name(event.path)
        if isinstance(event, ArtifactReady) and event.kind != "checkpoint":
            if self._settings.log_artifacts:
                self.plan.upload(self._place(record, "artifacts", event.name), event.path, name)
            return
        policy = self._settings.log_checkpoints
        best = isinstance(event, ArtifactReady) and "best" in event.aliases
        if policy == "none" or (policy == "best" and not best):
            return
        attribute = self._place(record, "checkpoints", "" if policy == "same" else policy)
        which = f"{event.path} at {event.step}"
        if self._ledger.stored.get(attribute) == which:
            return  # told twice: as saved, and as an artifact
        self._ledger.stored[attribute] = self.plan.marks.stored[attribute] = which
        self.plan.upload(attribute, event.path, name)
        before = self._ledger.kept.get(attribute)
        if policy != "same" and before not in (None, name):
            self.plan.assign(attribute, {"deleteFiles": {"filePaths": [before]}})
        self._ledger.kept[attribute] = self.plan.marks.kept[attribute] = name

    def _words(self, record: Record, event: Event) -> None:
        if isinstance(event, TextLogged):
            self._text(self._place(record, "texts", event.key), event.text, event.step, event.time)
        elif isinstance(event, AlertRaised):
            words = f"{event.level}: {event.title}" + (f"\n\n{event.text}" if event.text else "")
            self._text(self._place(record, "alerts"), words, event.step, event.time)
        elif isinstance(event, MessageLogged):
            self._text(self._place(record, "messages"), event.text, event.step, event.time)
        elif isinstance(event, ConsoleLineLogged):
            place = self._place(record, "monitoring", event.stream)
            self._text(place, event.text, None, event.time)
        elif isinstance(event, MetricDefined):
            self._definition(record, event)
        elif isinstance(event, SummaryLogged):
            for place, value in fields(event.values, self._place(record, "summary")):
                self._assign(place, measured(value))
        elif isinstance(event, MediaLogged):
            self._media(record, event)

    def _definition(self, record: Record, event: MetricDefined) -> None:
        place = self._place(record, "metric_definitions", event.name.replace("*", "_all"))
        for key, value in definition(event).items():
            self._assign(path(place, key), value)

    def _media(self, record: Record, event: MediaLogged) -> None:
        place = self._place(record, "media", event.key)
        if event.media_type.startswith("image/"):
            found = self._after(place, event.step, event.time, several=True)
            if found is not None:
                self.plan.picture(place, event.path, event.caption, *found)
            return
        step = "run" if event.step is None else f"{event.step:08d}"
        once = f"{step}-a{record.attempt}-{record.seq}"  # the same at each try
        self.plan.upload(path(place, once), event.path)
        if event.caption:
            self._assign(path(place, f"{once}_caption"), event.caption)


def _rank(record: Record) -> str:
    """What stands before everything of a rank; nothing for the first."""
    return f"rank{record.rank}" if record.rank else ""
