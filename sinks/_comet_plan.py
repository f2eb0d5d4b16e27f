"""What neighbouring records come to: requests that are acknowledged together.

Metrics are the only thing that Comet appends, so a stretch of records holds no more points than one
request takes, and everything else of it is sent before them: when something fails, nothing is there
twice. A record that uploads something is a stretch by itself.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pydantic import JsonValue

from bus import (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    Evaluated,
    MediaLogged,
    MetricsLogged,
    Predicted,
    Record,
    RunEnded,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
)

Kind: TypeAlias = Literal["metric", "parameter", "output", "else"]
"""What Comet limits by itself."""

Item: TypeAlias = dict[str, JsonValue]

MOST: Final = 1000
"""Points, parameters or lines in a request; Comet's client sends no more."""

KINDS: Final[tuple[Kind, ...]] = ("else", "parameter", "output", "metric")
"""What Comet replaces comes first, what it appends last."""

_NUMBERS: Final = (Evaluated, MetricsLogged, Predicted, SystemMetricsLogged, TrainEnded)
_ALONE: Final = (AlertRaised, ArtifactReady, CheckpointSaved, MediaLogged, RunEnded, TextLogged)


@dataclass(slots=True, kw_only=True)
class Upload:
    """A file, the files of a folder, or a text.

    Attributes:
        place: What tells it from every other upload of the run, at each try the same.
        target: Its name there; for a folder the beginning of its files' names.
        source: The file or folder, if it is one.
        text: The content, if it is none.
        kind: What Comet calls it, such as "asset" or "visualization".
        group: The model it belongs to; "" if to none.
        step: The step it is of.
        metadata: Anything else about it.
        may_be_gone: Whether nobody need be told if the file is not there any more.
    """

    place: str
    target: str
    source: str | None = None
    text: str = ""
    kind: str = "asset"
    group: str = ""
    step: int | None = None
    metadata: Item = field(default_factory=dict[str, JsonValue])
    may_be_gone: bool = False


@dataclass(slots=True)
class Stretch:
    """What a few records mean, in the order in which it is sent.

    Attributes:
        place: What tells it from every other one of the run, at each try the same.
        last: The `seq` of its last record.
        others: Single values by name; of several the last.
        tags: Tags.
        params: Parameters by name; of several the last.
        lines: Console lines.
        uploads: Files and texts.
        points: Points of metrics.
        notes: Alerts that Comet is to send to people: title and text.
    """

    place: str
    last: int
    others: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    tags: list[str] = field(default_factory=list[str])
    params: dict[str, Item] = field(default_factory=dict[str, Item])
    lines: list[Item] = field(default_factory=list[Item])
    uploads: list[Upload] = field(default_factory=list[Upload])
    points: list[Item] = field(default_factory=list[Item])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def kinds(self) -> list[Kind]:
        """Of which kinds there is something, in the order of `KINDS`."""
        found = (
            bool(self.others or self.tags or self.uploads or self.notes),
            bool(self.params),
            bool(self.lines),
            bool(self.points),
        )
        return [kind for kind, there in zip(KINDS, found, strict=True) if there]


def length(records: Sequence[Record], ends: Collection[int] = ()) -> int:
    """How many of the records, from the first on, are a stretch; at least one.

    Args:
        records: Of one attempt and rank.
        ends: Each the `seq` of a record behind which a stretch ends.
    """
    points = 0
    for count, record in enumerate(records):
        if count and any(records[count - 1].seq <= end < record.seq for end in ends):
            return count
        event = record.event
        if isinstance(event, _ALONE):
            return count or 1
        if isinstance(event, _NUMBERS):
            points += len(event.metrics)
        if count and points > MOST:
            return count
    return len(records)


def requests(items: Sequence[Item], most: int = MOST) -> list[list[Item]]:
    """The items, cut into what one request takes."""
    return [list(items[start : start + most]) for start in range(0, len(items), most)]
