"""Collect the metrics of a run as columns.

Events that carry the same keys share one `_Table`: their steps and times are stored once and
their values row by row in one flat array, so that taking an event in costs two appends and one
`extend`, whatever the number of its metrics. Columns are cut out only when a line is asked for.
"""

from __future__ import annotations  # array is not subscriptable at run time before 3.12

import itertools
import operator
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from bus import Row
from runtime.report._fields import number_of, text_of

METRIC_TYPES = frozenset({"metrics_logged", "evaluated", "predicted", "system_metrics_logged"})

_NO_STEP = -1


class MetricName(NamedTuple):
    """How a metric is called on the page, and under which heading."""

    group: str
    name: str


class Lineage(NamedTuple):
    """Which process drew a line, and whether a later attempt replaced it."""

    attempt: int
    rank: int
    superseded: bool


@dataclass(frozen=True)
class Line:
    """One metric of one attempt and rank, ascending in step (in time when it has no steps).

    Attributes:
        steps: Empty when any of the values was logged without a step.
        times: Unix seconds.
        values: NaN and infinities included.
    """

    lineage: Lineage
    steps: array[int]
    times: array[float]
    values: array[float]


class _Table:
    """Events of one kind and lineage that carry the same keys."""

    def __init__(self, names: list[MetricName], lineage: Lineage) -> None:
        self.names = names
        self.lineage = lineage
        self.steps: array[int] = array("q")
        self.times: array[float] = array("d")
        self._values: array[float] = array("d")

    def append(self, step: int, time: float, values: Collection[JsonValue]) -> None:
        self.steps.append(step)
        self.times.append(time)
        size = len(self._values)
        try:
            self._values.extend(values)  # type: ignore[arg-type]  # fails below where it must
        except (TypeError, OverflowError):
            del self._values[size:]
            self._values.extend(map(number_of, values))

    def column(self, index: int) -> array[float]:
        return self._values[index :: len(self.names)]


class Metrics:
    """Every metric of a run, by name and lineage."""

    def __init__(self) -> None:
        self._tables: dict[tuple[object, ...], _Table] = {}

    def add(self, row: Row, time: float, step: int | None) -> None:
        """Take in one event of `METRIC_TYPES`; one without metrics leaves no trace."""
        data = row.data
        metrics = data.get("metrics")
        if not isinstance(metrics, dict) or not metrics:
            return
        kind = data["type"]
        signature = (row.attempt, row.rank, row.superseded, kind, data.get("dataset"), *metrics)
        table = self._tables.get(signature)
        if table is None:
            names = [_named(key, str(kind), text_of(data, "dataset")) for key in metrics]
            lineage = Lineage(row.attempt, row.rank, row.superseded)
            table = self._tables[signature] = _Table(names, lineage)
        if step is None or kind == "system_metrics_logged":
            step = _NO_STEP
        table.append(step, time, metrics.values())

    def step_at(self, attempt: int, time: float) -> int | None:
        """The highest step of an attempt whose metrics were logged by then, if there is one."""
        tables = [table for table in self._tables.values() if table.lineage.attempt == attempt]
        ends = ((table, bisect_right(table.times, time)) for table in tables)
        highest = max((table.steps[end - 1] for table, end in ends if end), default=_NO_STEP)
        return None if highest == _NO_STEP else highest

    def count_lines(self) -> int:
        """How many lines iterating will yield in all."""
        return len(
            {(name, table.lineage) for table in self._tables.values() for name in table.names}
        )

    def __iter__(self) -> Iterator[tuple[MetricName, list[Line]]]:
        """Metrics in the order of their names, each with its lines, the superseded first."""
        places: defaultdict[MetricName, defaultdict[Lineage, list[tuple[_Table, int]]]]
        places = defaultdict(lambda: defaultdict(list))
        for table in self._tables.values():
            for index, name in enumerate(table.names):
                places[name][table.lineage].append((table, index))
        for name in sorted(places):
            lines = [_line(lineage, columns) for lineage, columns in sorted(places[name].items())]
            yield name, sorted(lines, key=lambda line: not line.lineage.superseded)


def _named(key: str, kind: str, dataset: str) -> MetricName:
    """Put evaluations, predictions and the machine's metrics under a heading of their own."""
    prefix = {"evaluated": "eval", "predicted": "predict", "system_metrics_logged": "system"}
    heading = prefix.get(kind, "")
    if heading and not key.startswith((f"{heading}/", f"{heading}_")):
        key = "/".join(part for part in (heading, dataset, key) if part)
    group, slash, _ = key.partition("/")
    return MetricName(group if slash else heading, key)


def _line(lineage: Lineage, columns: list[tuple[_Table, int]]) -> Line:
    steps: array[int] = array("q")
    times: array[float] = array("d")
    values: array[float] = array("d")
    for table, index in columns:
        steps.extend(table.steps)
        times.extend(table.times)
        values.extend(table.column(index))
    if min(steps) == _NO_STEP:
        steps = array("q")
    order = steps or times
    if not all(map(operator.le, order, itertools.islice(order, 1, None))):
        ranking = sorted(range(len(values)), key=order.__getitem__)
        steps = array("q", map(steps.__getitem__, ranking)) if steps else steps
        times = array("d", map(times.__getitem__, ranking))
        values = array("d", map(values.__getitem__, ranking))
    return Line(lineage, steps, times, values)
