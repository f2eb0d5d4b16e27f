"""Puts operations into as few requests as is sensible, in order, with what is true after each.

The same records make the same requests each time. A record with more than one request holds is
remembered with the last of its requests: if that fails, all of them are sent again, and the server
leaves out what it has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from pydantic import JsonValue

from sinks._neptune_state import Memory
from sinks._neptune_values import Operation

_ITEMS: Final = 1000
"""Operations and points in one request, as in Neptune's own client."""


@dataclass(slots=True)
class Upload:
    """A file or folder that goes to an attribute.

    Attributes:
        record: Index of the record it comes from.
        attribute: The attribute's path.
        source: The file or folder.
        place: Where in the attribute's set of files; None if the attribute is that one file.
        done: How many records of the batch are complete after it.
    """

    record: int
    attribute: str
    source: str
    place: str | None = None
    done: int = 0


@dataclass(slots=True)
class Picture:
    """An image that goes to a series.

    Attributes:
        series: The series' path.
        source: The file.
        caption: What it shows.
        step: Where it stands.
        time: When it was logged, in milliseconds since 1970.
        done: How many records of the batch are complete after it.
    """

    series: str
    source: str
    caption: str | None
    step: float
    time: int
    done: int


@dataclass(slots=True)
class Marks:
    """What the sink has to remember of records once they are stored; see `Memory`."""

    series: dict[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])
    kept: dict[str, str] = field(default_factory=dict[str, str])
    stored: dict[str, str] = field(default_factory=dict[str, str])
    dropped: Counter[str] = field(default_factory=Counter[str])

    def add(self, later: "Marks") -> None:
        """What holds after both."""
        self.series |= later.series
        self.kept |= later.kept
        self.stored |= later.stored
        self.dropped += later.dropped

    def remember(self, memory: Memory) -> None:
        """The records are stored."""
        memory.series |= self.series
        memory.kept |= self.kept
        memory.stored |= self.stored
        for reason, count in self.dropped.items():
            memory.drop(reason, count)


@dataclass(slots=True)
class Operations:
    """One request, or none if nothing is to be sent.

    Attributes:
        operations: Its body.
        marks: What to remember after it.
        done: How many records of the batch are complete after it.
    """

    operations: list[Operation] = field(default_factory=list[Operation])
    marks: Marks = field(default_factory=Marks)
    done: int = 0
    items: int = 0
    places: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def add(self, path: str, action: str, body: Operation) -> None:
        """Add an operation: points to those of their series, a value in place of an earlier one."""
        self.items += 1
        place = self.places.get((path, action))
        if place is None:
            self.places[path, action] = len(self.operations)
            self.operations.append({"path": path, action: body})
        elif "entries" in body:
            there = cast("dict[str, list[JsonValue]]", self.operations[place][action])
            there["entries"].extend(cast("list[JsonValue]", body["entries"]))
        else:
            self.operations[place][action] = body


Step: TypeAlias = Operations | Picture | Upload


class Plan:
    """Steps for the records of one batch."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._open = Operations()
        self._record = 0
        self._actions: list[tuple[str, str, Operation]] = []
        self._uploads: list[Picture | Upload] = []
        self.marks: Marks = Marks()

    def assign(self, path: str, operation: Operation) -> None:
        """Add an operation of one action to a path."""
        ((action, body),) = operation.items()
        self._actions.append((path, action, cast("Operation", body)))

    def point(self, path: str, action: str, value: float | str, step: float, time: int) -> None:
        """Add a point to a series; `time` in milliseconds since 1970."""
        self._actions.append((path, action, entries(value, step, time)))

    def picture(self, path: str, source: str, caption: str | None, step: float, time: int) -> None:
        """Add an image to a series, as `upload` does a file."""
        self._uploads.append(Picture(path, source, caption, step, time, self._record))

    def upload(self, attribute: str, source: str, place: str | None = None) -> None:
        """Add a file or folder; what stands before its record is sent before it."""
        self._uploads.append(Upload(self._record, attribute, source, place, self._record))

    def next_record(self) -> None:
        """Everything of a record has been added."""
        if self._uploads or self._open.items + len(self._actions) > _ITEMS:
            self._flush()
        self._steps += self._uploads
        for path, action, body in self._actions:
            if self._open.items == _ITEMS:
                self._open.done = self._record
                self._flush()
            self._open.add(path, action, body)
        self._open.marks.add(self.marks)
        self._record += 1
        self._open.done = self._record
        self._actions, self._uploads, self.marks = [], [], Marks()

    def ended(self) -> Sequence[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self._flush()
        return self._steps

    def _flush(self) -> None:
        if self._open.items or self._open.done:
            self._steps.append(self._open)
        self._open = Operations()


def entries(value: JsonValue, step: float, time: int) -> Operation:
    """One point of a series, as the operations that add to series have it."""
    whole = int(step) if step.is_integer() else step
    return {"entries": [{"value": value, "step": whole, "timestampMilliseconds": time}]}
