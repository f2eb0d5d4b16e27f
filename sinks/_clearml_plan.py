"""Puts what a batch says into as few requests as ClearML's limits allow.

Of several values of one point or parameter the last one counts, as on the server. Lines of the log
come last in a stretch: they are the only thing that a repeated request would show twice.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import orjson

from sinks._clearml_values import Item

FileKind: TypeAlias = Literal["model", "artifact", "media"]

_LINES: Final = 2000
_BYTES: Final = 4 << 20
"""ClearML's own client cuts at 15 MB; smaller requests end sooner when a line is slow."""


@dataclass(slots=True)
class Events:
    """Lines of one `events.add_batch`.

    Attributes:
        lines: Each one event as JSON.
        done: How many records of the batch are complete after it.
        counts: The series' counters as they are then.
    """

    lines: list[bytes]
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Parameters:
    """Parameters of one `tasks.edit_hyper_params`."""

    items: list[Item]
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Upload:
    """A file or folder that goes to the file server, and what is to be said of it.

    Attributes:
        kind: What it becomes.
        name: Its name there; for media the chart.
        source: Where it is.
        step: The iteration it belongs to.
        record: Index of the record it comes from.
        checkpoint: Whether it is a checkpoint, of which not all may stay.
        event: For media the event that shows it, but for its address.
    """

    kind: FileKind
    name: str
    source: str
    step: int
    checkpoint: bool = False
    record: int = 0
    event: Item = field(default_factory=Item)
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])


Step: TypeAlias = Events | Parameters | Upload


class Plan:
    """Steps for the records of one batch.

    Args:
        counts: The series' counters, which whoever adds points changes.

    Attributes:
        steps: What is to be sent, in order; complete once `ended` was called.
    """

    def __init__(self, counts: dict[str, int]) -> None:
        self.steps: list[Step] = []
        self._counts = counts
        self._points: dict[tuple[str, str, int], Item] = {}
        self._others: list[Item] = []
        self._logs: list[Item] = []
        self._parameters: dict[tuple[str, str], Item] = {}
        self._record = 0

    def point(self, event: Item) -> None:
        """Add a point; a later one of its series and iteration replaces it."""
        place = (str(event["metric"]), str(event["variant"]), int(str(event["iter"])))
        self._points[place] = event

    def other(self, event: Item) -> None:
        """Add what has an identity of its own, such as a plot."""
        self._others.append(event)

    def log(self, event: Item) -> None:
        """Add to the log; it becomes one event with the one before, if they only differ in text."""
        last = self._logs[-1] if self._logs else None
        if (
            last is not None
            and (last["level"], last["worker"]) == (event["level"], event["worker"])
            and len(str(last["msg"])) < _BYTES >> 6
        ):
            last["msg"] = f"{last['msg']}\n{event['msg']}"
        else:
            self._logs.append(event)

    def parameter(self, item: Item) -> None:
        """Add a parameter; a later one of its name replaces it."""
        self._parameters[str(item["section"]), str(item["name"])] = item

    def upload(self, upload: Upload) -> None:
        """Add a file; what stands before it is sent before it."""
        self._flush()
        upload.record = self._record
        self._add(upload)

    def next_record(self) -> None:
        """Everything of a record has been added."""
        self._record += 1
        if self.steps and not self._waiting():
            self._complete(self.steps[-1])

    def ended(self) -> list[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self._flush()
        return self.steps

    def _waiting(self) -> bool:
        return bool(self._points or self._others or self._logs or self._parameters)

    def _flush(self) -> None:
        if not self._waiting():
            return
        if self._parameters:
            self._add(Parameters(list(self._parameters.values())))
        lines: list[bytes] = []
        size = 0
        for event in (*self._points.values(), *self._others, *self._logs):
            line = orjson.dumps(event)
            if lines and (len(lines) >= _LINES or size + len(line) > _BYTES):
                self._add(Events(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        if lines:
            self._add(Events(lines))
        self._complete(self.steps[-1])
        self._points, self._others, self._logs, self._parameters = {}, [], [], {}

    def _add(self, step: Step) -> None:
        """Append a step behind which no further record is complete yet."""
        if self.steps:
            step.done, step.counts = self.steps[-1].done, self.steps[-1].counts
        self.steps.append(step)

    def _complete(self, step: Step) -> None:
        step.done, step.counts = self._record, dict(self._counts)
