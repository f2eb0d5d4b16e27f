"""Puts what the records of a batch mean into as few requests as Comet's limits allow, in order.

Metrics are the only thing that Comet appends, so they stand last in each group: when something
before them fails, nothing is there twice.
"""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pydantic import JsonValue

Item: TypeAlias = dict[str, JsonValue]

MOST: Final = 1000
"""Items in a request."""


@dataclass(slots=True)
class Group:
    """Requests that are acknowledged together.

    Attributes:
        others: Single values by name; of several the last.
        tags: Tags.
        params: Parameters by name; of several the last.
        lines: Console lines.
        notes: Alerts that Comet is to send to people: title and text.
        points: Points of metrics.
        done: How many records of the batch are complete after it.
    """

    others: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    tags: list[str] = field(default_factory=list[str])
    params: dict[str, Item] = field(default_factory=dict[str, Item])
    lines: list[Item] = field(default_factory=list[Item])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    points: list[Item] = field(default_factory=list[Item])
    done: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (
            self.others or self.tags or self.params or self.lines or self.notes or self.points
        )


@dataclass(slots=True, kw_only=True)
class Upload:
    """A file, the files of a folder, or a text.

    Attributes:
        record: Index of the record it comes from.
        place: What tells it from every other upload of the run, at each try the same.
        target: Its name there; for a folder the beginning of its files' names.
        source: The file or folder, if it is one.
        text: The content, if it is none.
        kind: What Comet calls it, such as "asset" or "visualization".
        group: The model it belongs to; "" if to none.
        step: The step it is of.
        metadata: Anything else about it.
        may_be_gone: Whether nobody need be told if the file is not there any more.
        done: How many records of the batch are complete after it.
    """

    record: int
    place: str
    target: str
    source: str | None = None
    text: str = ""
    kind: str = "asset"
    group: str = ""
    step: int | None = None
    metadata: Item = field(default_factory=dict[str, JsonValue])
    may_be_gone: bool = False
    done: int = 0


Step: TypeAlias = Group | Upload


class Plan:
    """Steps for the records of one batch.

    Attributes:
        record: Index of the record that is being added.
        steps: What is to be sent, in order; complete once `ended` was called.
    """

    def __init__(self) -> None:
        self.record = 0
        self.steps: list[Step] = []
        self._open = Group()

    def point(self, item: Item) -> None:
        """Add a point of a metric."""
        self._room(len(self._open.points))
        self._open.points.append(item)

    def param(self, name: str, item: Item) -> None:
        """Add a parameter; it replaces an earlier one of its name."""
        self._room(len(self._open.params))
        self._open.params[name] = item

    def line(self, item: Item) -> None:
        """Add a console line."""
        self._room(len(self._open.lines))
        self._open.lines.append(item)

    def other(self, name: str, value: JsonValue) -> None:
        """Add a single value; it replaces an earlier one of its name."""
        self._open.others[name] = value

    def tags(self, tags: list[str]) -> None:
        """Add tags."""
        self._open.tags += tags

    def note(self, title: str, text: str) -> None:
        """Add an alert for people."""
        self._open.notes.append((title, text))

    def upload(self, upload: Upload) -> None:
        """Add a file or text; what stands before it is sent before it."""
        self._flush()
        upload.done = self.record
        self.steps.append(upload)

    def next_record(self) -> None:
        """Everything of a record has been added."""
        self.record += 1
        if not self._open.empty or not self.steps:
            self._open.done = self.record
        else:
            self.steps[-1].done = self.record

    def ended(self) -> list[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self._flush()
        return self.steps

    def _room(self, count: int) -> None:
        if count >= MOST:
            self._flush()

    def _flush(self) -> None:
        if not self._open.empty:
            self.steps.append(self._open)
        self._open = Group(done=self.record)
