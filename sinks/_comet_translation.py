"""Says in Comet's terms what the events of a run mean: points, parameters, single values, files.

Nothing here waits or sends. The same records on top of the same `Memory` mean the same each time.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from bus import (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    ConsoleLineLogged,
    Evaluated,
    Event,
    MediaLogged,
    MessageLogged,
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
from sinks._comet_plan import Plan, Upload
from sinks._comet_settings import CometSettings
from sinks._comet_state import File, Memory
from sinks._comet_values import (
    compact,
    flattened,
    milliseconds,
    named,
    number,
    plain,
    shortened,
)
from sinks._tensorboard_values import rewritten

WANTED: Final[tuple[type[Event], ...]] = (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    ConsoleLineLogged,
    Evaluated,
    MediaLogged,
    MessageLogged,
    MetricsLogged,
    ParametersLogged,
    Predicted,
    RunEnded,
    RunStarted,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
)

_RESULTS: Final = {"evaluated": "eval", "predicted": "predict", "train_ended": ""}
_MEDIA: Final = {"image": "visualization", "audio": "audio", "video": "video"}
_MOST: Final = {"text-sample": 500, "model-element": 100}
"""Texts and models that an experiment may have."""
_FACTS: Final = ("host", "python", "torch", "cuda", "hotloop", "folder", "git_commit", "command")

Latest = dict[str, tuple[int | None, float]]
"""For each metric the last point of `MetricsLogged`: its step and value."""


class Translation:
    """Translates the records of one batch, one after another.

    Args:
        memory: What has been delivered; it is changed along the way.
        latest: What was logged last.
        settings: How the run is to be shown.
        name: What the run is called.

    Attributes:
        plan: What has to be sent.
        steps: For each metric of the batch the highest step.
        masked: Points left out because an earlier attempt delivered theirs.
    """

    def __init__(self, memory: Memory, latest: Latest, settings: CometSettings, name: str) -> None:
        self.plan = Plan()
        self.steps: dict[str, int] = {}
        self.masked = 0
        self._memory = memory
        self._latest = latest
        self._settings = settings
        self._name = settings.experiment_name or name

    def add(self, record: Record) -> None:
        """Translate one record."""
        event = record.event
        if isinstance(event, MetricsLogged):
            for key, value in event.metrics.items():
                name = self._point(record, key, value, event.metrics)
                self._latest[name] = (event.step, value)
        elif isinstance(event, (Evaluated, Predicted, TrainEnded)):
            self._results(record, event)
        elif isinstance(event, SystemMetricsLogged):
            for key, value in event.metrics.items():
                self._point(record, f"sys.{key.replace('/', '.')}", value, {}, renamed=False)
        elif isinstance(event, (RunStarted, RunEnded)):
            self._life(event)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._file(record, event)
        else:
            self._words(record, event)
        self.plan.next_record()

    def _point(
        self,
        record: Record,
        key: str,
        value: float,
        beside: Mapping[str, float],
        *,
        renamed: bool = True,
    ) -> str:
        """Add a point unless an earlier attempt's stands for it; tell its name."""
        key = rewritten(key) if renamed and self._settings.rewrite else key
        name = named(f"rank{record.rank}/{key}" if record.rank else key)
        event = record.event
        if event.step is not None:
            if event.step <= self._memory.mask.get(name, -1):
                self.masked += 1
                return name
            self.steps[name] = max(event.step, self.steps.get(name, event.step))
        epoch = beside.get("epoch")
        self.plan.point(
            {
                "metricName": name,
                "metricValue": number(value),
                "step": event.step,
                "epoch": epoch if epoch is not None and epoch - epoch == 0 else None,
                "context": None,
                "timestamp": milliseconds(event.time),
            }
        )
        return name

    def _results(self, record: Record, event: Evaluated | Predicted | TrainEnded) -> None:
        """Add the numbers of an evaluation, unless they have been logged as metrics too."""
        heading = "" if self._settings.rewrite else _RESULTS[event.type]
        dataset = event.dataset if isinstance(event, Evaluated) else None
        for key, value in event.metrics.items():
            name = key
            if heading and not key.startswith((f"{heading}/", f"{heading}_")):
                name = "/".join(part for part in (heading, dataset, key) if part)
            shown = named(rewritten(name) if self._settings.rewrite else name)
            if self._latest.get(shown) != (event.step, value):
                self._point(record, name, value, event.metrics)

    def _life(self, event: RunStarted | RunEnded) -> None:
        plan = self.plan
        if isinstance(event, RunStarted):
            if event.attempt > self._memory.masked_for:
                self._mask(event)
            self._memory.error = None
            plan.other("Name", shortened(self._name))
            plan.other("Created from", "hotloop")
            plan.other("hotloop.attempt", event.attempt)
            plan.tags(list(self._settings.experiment_tags))
            for key, value in {**self._settings.others, **_facts(event.facts)}.items():
                plan.other(key, plain(value))
            self._parameters(event, event.config)
            return
        for name, text in (("error", event.error), ("reason", event.reason)):
            if text:
                plan.other(f"hotloop.{name}", shortened(text))
        self._memory.error = event.error
        for upload in waiting(self._memory):
            upload.record, upload.step = self.plan.record, event.step
            self.plan.upload(upload)

    def _mask(self, started: RunStarted) -> None:
        """Note which steps earlier attempts have delivered beyond the one this goes on from."""
        beyond = started.resumed_from_step
        steps = self._memory.steps if beyond is not None else {}
        self._memory.mask = {name: step for name, step in steps.items() if step > (beyond or 0)}
        self._memory.masked_for = started.attempt

    def _parameters(self, event: Event, values: Mapping[str, JsonValue]) -> None:
        for key, value in flattened(values):
            name = named(key)
            self.plan.param(
                name,
                {
                    "parameterName": name,
                    "parameterValue": value,
                    "step": event.step,
                    "source": "manual",
                    "context": None,
                    "timestamp": milliseconds(event.time),
                },
            )
        if any(isinstance(value, dict) for value in values.values()):
            self.plan.other("hasNestedParams", value=True)

    def _file(self, record: Record, event: CheckpointSaved | ArtifactReady) -> None:
        """Plan a file's upload now, or for the run's end."""
        *_, folder, name = ("", *event.path.replace("\\", "/").rstrip("/").split("/"))
        kind, group = "asset", ""
        target = f"{folder}/{name}" if folder else name
        model = isinstance(event, CheckpointSaved) or event.kind in ("checkpoint", "model")
        metadata: dict[str, JsonValue] = {}
        if isinstance(event, ArtifactReady):
            target, metadata = event.name, dict(event.metadata)
            if event.kind == "model":
                kind, group = "model-element", event.name
        when = self._settings.log_assets
        if when == "all" or (model and when == "checkpoints"):
            self._upload(record, target, kind, source=event.path, group=group, metadata=metadata)
        elif when == "end":
            self._memory.waiting[target] = File(event.path, kind, group)

    def _words(self, record: Record, event: Event) -> None:
        if isinstance(event, ParametersLogged):
            self._parameters(event, event.parameters)
        elif isinstance(event, SummaryLogged):
            for key, value in flattened(event.values):
                self.plan.other(key, plain(value))
        elif isinstance(event, TextLogged):
            self._text(record, event.text, {"key": event.key})
        elif isinstance(event, AlertRaised):
            self.plan.other("alert", shortened(f"{event.level}: {event.title}"))
            self._text(record, f"{event.title}\n\n{event.text}\n", {"alert": event.level})
            if self._settings.notify:
                self.plan.note(event.title, event.text)
        elif isinstance(event, ConsoleLineLogged):
            self._line(event, event.text, wrong=event.stream == "stderr")
        elif isinstance(event, MessageLogged):
            self._line(event, event.text, wrong=event.level == "error")
        elif isinstance(event, MediaLogged):
            kind = _MEDIA.get(event.media_type.partition("/")[0], "asset")
            metadata: dict[str, JsonValue] = {"caption": event.caption} if event.caption else {}
            self._upload(record, event.key, kind, source=event.path, metadata=metadata)

    def _line(self, event: Event, text: str, *, wrong: bool) -> None:
        offset = self._memory.offset or 0
        self._memory.offset = offset + 1
        self.plan.line(
            {
                "stderr": wrong,
                "output": text.rstrip("\n") + "\n",
                "localTimestamp": milliseconds(event.time),
                "offset": offset,
            }
        )

    def _text(self, record: Record, text: str, metadata: dict[str, JsonValue]) -> None:
        self._upload(
            record, "auto-generated-in-the-backend", "text-sample", text=text, metadata=metadata
        )

    def _upload(
        self,
        record: Record,
        target: str,
        kind: str,
        *,
        source: str | None = None,
        text: str = "",
        group: str = "",
        metadata: dict[str, JsonValue] | None = None,
    ) -> None:
        """Plan an upload unless Comet has as many of its kind as it takes."""
        count = self._memory.counts.get(kind, 0)
        if count >= _MOST.get(kind, count + 1):
            self._memory.leave_out(f"Comet keeps {_MOST[kind]} of {kind} for an experiment")
            return
        if kind in _MOST:
            self._memory.counts[kind] = count + 1
        self.plan.upload(
            Upload(
                record=self.plan.record,
                place=f"{record.attempt}.{record.rank}.{record.seq}:{target}",
                target=target,
                source=source,
                text=text,
                kind=kind,
                group=group,
                step=record.event.step,
                metadata=metadata or {},
            )
        )


def waiting(memory: Memory) -> Iterator[Upload]:
    """What is to be uploaded at the run's end, as far as it is still there then."""
    for target, file in memory.waiting.items():
        yield Upload(
            record=0,
            place=f"{memory.masked_for}.end:{target}",
            target=target,
            source=file.source,
            kind=file.kind,
            group=file.group,
            may_be_gone=True,
        )


def _facts(facts: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Where the run is, each under a heading of its own."""
    found: dict[str, JsonValue] = {}
    for key in _FACTS:
        value = facts.get(key)
        if isinstance(value, list):
            value = " ".join(map(str, value))
        if value is not None:
            found[f"hotloop.{key}"] = value if isinstance(value, str) else compact(value)
    return found
