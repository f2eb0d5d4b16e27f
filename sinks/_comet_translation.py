"""Says in Comet's terms what the events of a run mean: points, parameters, single values, files.

Nothing here waits or sends. The same records on top of the same `Memory` mean the same each time.
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
    TrainerInitialized,
)
from sinks._comet_plan import Stretch
from sinks._comet_settings import CometSettings
from sinks._comet_state import Memory
from sinks._comet_uploads import Uploads, waiting
from sinks._comet_values import (
    compact,
    flattened,
    named,
    shortened,
    single,
)
from sinks._scalars import rewritten
from sinks._tracked import HEADINGS, Results, all_but, beyond, ranked, result_name
from sinks._values import milliseconds, number

WANTED: Final[tuple[type[Event], ...]] = (
    *all_but(HistogramLogged, MetricDefined),
    TrainerInitialized,
)

_FACTS: Final = ("host", "python", "torch", "cuda", "hotloop", "folder", "git_commit", "command")

Latest = dict[str, tuple[int | None, float]]
"""For each metric the last point of `MetricsLogged`: its step and value."""


class Translation:
    """Translates the records of a stretch, one after another.

    Args:
        stretch: What has to be sent; each record adds to it.
        memory: What has been delivered; it is changed along the way.
        latest: What was logged last; it is changed too.
        settings: How the run is to be shown.
        name: What the run is called.
    """

    def __init__(
        self,
        stretch: Stretch,
        memory: Memory,
        latest: Latest,
        settings: CometSettings,
        name: str,
    ) -> None:
        self._stretch = stretch
        self._memory = memory
        self._latest = latest
        self._settings = settings
        self._uploads = Uploads(memory, settings.log_assets)
        self._name = settings.experiment_name or name

    def add(self, record: Record) -> None:
        """Translate one record."""
        event = record.event
        if isinstance(event, MetricsLogged):
            self._note_epoch(event)
            for key, value in event.metrics.items():
                name = self._shown(record, key)
                self._latest[name] = event.step, value
                self._point(event, name, value)
        elif isinstance(event, (Evaluated, Predicted, TrainEnded)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            for key, value in event.metrics.items():
                name = _ranked(record, f"sys.{key.replace('/', '.')}")
                self._point(event, name, value)
        elif isinstance(event, (RunStarted, RunEnded, TrainerInitialized)):
            self._life(event)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._stretch.uploads += self._uploads.file(record, event)
        elif isinstance(event, MediaLogged):
            self._stretch.uploads += self._uploads.media(record, event)
        else:
            self._words(record, event)

    def _shown(self, record: Record, key: str) -> str:
        return _ranked(record, rewritten(key) if self._rewrites() else key)

    def _rewrites(self) -> bool:
        wanted = self._settings.rewrite
        return self._memory.trainer if wanted is None else wanted

    def _note_epoch(self, event: MetricsLogged | Results) -> None:
        epoch = event.metrics.get("epoch")
        if epoch is not None and event.step is not None and epoch - epoch == 0:
            self._memory.epoch = event.step, epoch

    def _point(self, event: Event, name: str, value: float) -> None:
        """Add a point, unless that of an earlier attempt stands for it."""
        if event.step is not None and event.step <= self._memory.mask.get(name, -1):
            return
        step, epoch = self._memory.epoch or (None, None)
        self._stretch.points.append(
            {
                "metricName": name,
                "metricValue": number(value),
                "step": event.step,
                "epoch": epoch if event.step == step else None,
                "context": None,
                "timestamp": milliseconds(event.time),
            }
        )

    def _results(self, record: Record, event: Results) -> None:
        """Add the numbers of an evaluation, unless they have been logged as metrics too."""
        self._note_epoch(event)
        heading = "" if self._rewrites() else HEADINGS[event.type]
        for key, value in event.metrics.items():
            name = self._shown(record, result_name(event, key, heading))
            if self._latest.get(name) != (event.step, value):
                self._point(event, name, value)

    def _life(self, event: RunStarted | RunEnded | TrainerInitialized) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, RunEnded):
            self._end(event)
        else:
            self._memory.trainer = True

    def _start(self, event: RunStarted) -> None:
        if event.attempt > self._memory.masked_for:
            self._memory.mask = beyond(event, self._memory.steps)
            self._memory.masked_for = event.attempt
        self._memory.error = None
        others = self._stretch.others
        if event.attempt == 1:  # later somebody may have renamed it
            others["Name"] = shortened(self._name)
        else:
            others["hotloop.attempt"] = event.attempt
        others["Created from"] = "hotloop"
        if facts := _facts(event.facts):
            others["hotloop.facts"] = shortened(facts)
        for key, value in self._settings.others.items():
            others[named(key)] = single(value)
        self._stretch.tags += self._settings.experiment_tags
        self._parameters(event, event.config)

    def _end(self, event: RunEnded) -> None:
        for name, text in (("error", event.error), ("reason", event.reason)):
            if text:
                self._stretch.others[f"hotloop.{name}"] = shortened(text)
        self._memory.error = event.error
        self._stretch.uploads += waiting(self._memory)

    def _parameters(self, event: Event, values: Mapping[str, JsonValue]) -> None:
        for key, value in flattened(values):
            name = named(key)
            self._stretch.params[name] = {
                "parameterName": name,
                "parameterValue": value,
                "step": event.step,
                "source": "manual",
                "context": None,
                "timestamp": milliseconds(event.time),
            }
        if any(isinstance(value, dict) for value in values.values()):
            self._stretch.others["hasNestedParams"] = True

    def _words(self, record: Record, event: Event) -> None:
        if isinstance(event, ParametersLogged):
            self._parameters(event, event.parameters)
        elif isinstance(event, SummaryLogged):
            for key, value in flattened(event.values):
                self._stretch.others[named(key)] = single(value)
        elif isinstance(event, TextLogged):
            self._stretch.uploads += self._uploads.text(record, event.text, {"key": event.key})
        elif isinstance(event, AlertRaised):
            self._alert(record, event)
        elif isinstance(event, ConsoleLineLogged):
            self._line(event, event.text, wrong=event.stream == "stderr")
        elif isinstance(event, MessageLogged):
            self._line(event, event.text, wrong=event.level == "error")

    def _alert(self, record: Record, event: AlertRaised) -> None:
        self._stretch.others["alert"] = shortened(f"{event.level}: {event.title}")
        text = f"{event.title}\n\n{event.text}\n"
        self._stretch.uploads += self._uploads.text(record, text, {"alert": event.level})
        if self._settings.notify:
            self._stretch.notes.append((event.title, event.text))

    def _line(self, event: Event, text: str, *, wrong: bool) -> None:
        offset = self._memory.offset or 0
        self._memory.offset = offset + 1
        self._stretch.lines.append(
            {
                "stderr": wrong,
                "output": text.rstrip("\n") + "\n",
                "localTimestamp": milliseconds(event.time),
                "offset": offset,
            }
        )


def _ranked(record: Record, key: str) -> str:
    """A metric's name there: what other ranks log has a heading of its own."""
    return named(ranked(key, record.rank))


def _facts(facts: Mapping[str, JsonValue]) -> str:
    """Where the run is, as one text: each single value is a request of its own.

    What may be long stands last, where a text is cut.
    """
    found = {key: facts[key] for key in _FACTS if facts.get(key) is not None}
    return ", ".join(f"{key} {_as_text(value)}" for key, value in found.items())


def _as_text(value: JsonValue) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else compact(value)
