"""Puts items into as few `log-batch` requests as a server's limits allow, in order.

The same records make the same requests each time: a request that is sent again must be the same,
or the server could not recognise its points.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pydantic import JsonValue

from sinks._mlflow_values import Limits
from sinks._values import milliseconds, number, shortened

Item: TypeAlias = dict[str, JsonValue]

_LISTS: Final = ("metrics", "params", "tags")


@dataclass(slots=True)
class Upload:
    """A file or a text that goes among the run's artifacts.

    Attributes:
        record: Index of the record it comes from.
        target: Path among the artifacts; for a folder the folder's.
        source: The file or folder, if it is one.
        text: The content, if it is none.
        done: How many records of the batch are complete after it.
    """

    record: int
    target: str
    source: str | None = None
    text: str = ""
    done: int = 0


@dataclass(slots=True)
class LogBatch:
    """One request.

    Attributes:
        metrics: Points.
        params: Parameters.
        tags: Tags.
        origins: For each list the record that each item comes from.
        done: How many records of the batch are complete after it.
    """

    metrics: list[Item] = field(default_factory=list[Item])
    params: list[Item] = field(default_factory=list[Item])
    tags: list[Item] = field(default_factory=list[Item])
    origins: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in _LISTS})
    done: int = 0

    def __len__(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags)

    @property
    def body(self) -> Item:
        """The request's lists, without those that are empty."""
        return {name: each for name in _LISTS if (each := getattr(self, name))}

    def halves(self) -> "Iterator[LogBatch]":
        """Two smaller requests for the same, to find what a server takes."""
        middle = max(1, len(self) // 2)
        first, second = LogBatch(done=self.done), LogBatch(done=self.done)
        index = 0
        for name in _LISTS:
            for item, origin in zip(getattr(self, name), self.origins[name], strict=True):
                half = first if index < middle else second
                getattr(half, name).append(item)
                half.origins[name].append(origin)
                index += 1
        yield from (half for half in (first, second) if len(half))


Step: TypeAlias = LogBatch | Upload


class Plan:
    """Steps for the records of one batch.

    Args:
        limits: What the server takes at once.

    Attributes:
        steps: What is to be sent, in order; complete once `ended` was called.
    """

    def __init__(self, limits: Limits) -> None:
        self.steps: list[Step] = []
        self._limits = limits
        self._open = LogBatch()
        self._record = 0
        self._points: set[tuple[str, int, int, float | str]] = set()

    def metric(self, key: str, value: float, time: float, step: int | None) -> None:
        """Add a point, unless it is there already: it would be the same row of a table."""
        point = (key, milliseconds(time), step or 0, number(value))
        if point in self._points:
            return
        self._points.add(point)
        self._room("metrics", self._limits.metrics)
        item: Item = {"key": key, "value": point[3], "timestamp": point[1], "step": point[2]}
        self._open.metrics.append(item)

    def param(self, key: str, value: str) -> None:
        """Add a parameter; a request must not hold one twice."""
        self._room("params", self._limits.params)
        self._open.params.append({"key": key, "value": value})

    def tag(self, key: str, value: str) -> None:
        """Add a tag; a later one of the same name in the same request replaces it."""
        value = shortened(value, self._limits.tag_value)
        for item in self._open.tags:
            if item["key"] == key:
                item["value"] = value
                return
        self._room("tags", self._limits.tags)
        self._open.tags.append({"key": key, "value": value})

    def upload(self, target: str, *, source: str | None = None, text: str = "") -> None:
        """Add a file; what stands before it is sent before it."""
        self._flush()
        self.steps.append(Upload(self._record, target, source, text, self._record))

    def next_record(self) -> None:
        """Everything of a record has been added."""
        self._record += 1
        if len(self._open) or not self.steps:
            self._open.done = self._record
        else:
            self.steps[-1].done = self._record

    def ended(self) -> list[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self._flush()
        return self.steps

    def _room(self, name: str, most: int) -> None:
        if len(self._open.origins[name]) >= most or len(self._open) >= self._limits.items:
            self._flush()
        self._open.origins[name].append(self._record)

    def _flush(self) -> None:
        if len(self._open):
            self.steps.append(self._open)
        self._open = LogBatch(done=self._record)
