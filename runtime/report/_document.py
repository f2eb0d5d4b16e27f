"""What the page is made of: the JSON object that a report carries and its script draws.

All times are Unix seconds, all durations seconds. The script shows every string as text.
"""

from typing import Literal, NotRequired, TypedDict

MarkKind = Literal["attempt", "decision", "alert", "gap"]


class Mark(TypedDict):
    """A moment drawn across every plot.

    Attributes:
        step: None when nothing tells it; `estimated` when it is the last one logged by then.
        label: A word or two; `detail` is the rest of the story.
        by: Who asked for it, for decisions.
    """

    kind: MarkKind
    time: float
    step: int | None
    estimated: bool
    attempt: int
    label: str
    detail: str
    by: str


class Note(TypedDict):
    """A message, a logged text, or a line of the console."""

    time: float
    step: int | None
    attempt: int
    title: str
    text: str
    level: str


class Saved(TypedDict):
    """A checkpoint or another artifact."""

    time: float
    step: int | None
    attempt: int
    kind: str
    name: str
    path: str
    detail: str


class Latest(TypedDict):
    """The last notes of a kind, and how many there were in all."""

    total: int
    items: list[Note]


class Packed(TypedDict):
    """Columns of one line: steps, times and values, `count` of each.

    Attributes:
        data: See `runtime.report._columns`.
    """

    count: int
    data: str


class LineEntry(TypedDict):
    """One line of a plot.

    Attributes:
        logged: Values before thinning; `missing` of them are NaN or infinite.
        detail: A finer level for zooming, where thinning took something away.
    """

    attempt: int
    rank: int
    superseded: bool
    logged: int
    missing: int
    steps: tuple[int, int] | None
    times: tuple[float, float]
    overview: Packed
    detail: NotRequired[Packed]


class MetricEntry(TypedDict):
    """One plot.

    Attributes:
        by_step: False when values came without steps, which leaves time as the only axis.
        summary: Last, lowest and highest value that count, as text; absent if none is finite.
    """

    name: str
    group: str
    unit: str
    goal: str
    by_step: bool
    lines: list[LineEntry]
    last: float | None
    lowest: float | None
    highest: float | None


class AttemptEntry(TypedDict):
    """One process's turn at the run."""

    number: int
    started: float
    ended: float | None
    last_seen: float | None
    outcome: str
    story: str
    resumed_from_step: int | None


class Tile(TypedDict):
    """A number that stands out at the top of the page."""

    label: str
    value: str
    note: str


Pairs = list[tuple[str, str]]


class Document(TypedDict):
    """Everything a report says.

    Attributes:
        state: "running" or an outcome; `story` is the error, or who stopped it and why.
        origin: The moment that relative times count from.
        damaged: Journal lines that could not be read.
        elsewhere: What the journal holds and the page does not show, by name.
    """

    name: str
    id: str
    project: str
    state: str
    story: str
    origin: float
    written: float
    duration: float | None
    facts: Pairs
    tiles: list[Tile]
    attempts: list[AttemptEntry]
    marks: list[Mark]
    marks_left_out: int
    metrics: list[MetricEntry]
    alerts: Latest
    messages: Latest
    texts: Latest
    console: Latest
    saved: list[Saved]
    saved_left_out: int
    config: Pairs
    summary: Pairs
    environment: Pairs
    damaged: int
    elsewhere: Pairs
