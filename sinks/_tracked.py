"""What trackers are told of a run, and what events mean to all of them alike."""

from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias, TypeVar

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

TRACKED: Final[tuple[type[Event], ...]] = (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    ConsoleLineLogged,
    Evaluated,
    HistogramLogged,
    MediaLogged,
    MessageLogged,
    MetricDefined,
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

Results: TypeAlias = Evaluated | Predicted | TrainEnded
Announced: TypeAlias = CheckpointSaved | ArtifactReady

HEADINGS: Final = {"evaluated": "eval", "predicted": "predict", "train_ended": ""}
"""Where the numbers of an evaluation, a prediction and a training are shown."""
MODELS: Final = frozenset({"checkpoint", "model"})
"""Kinds of files that are models."""

_DEFINED: Final = ("unit", "goal", "summary", "step_metric")

Step = TypeVar("Step", int, float)


class KnowsCheckpoint(Protocol):
    """What remembers the folder of the checkpoint that was announced last."""

    checkpoint: str


def all_but(*kinds: type[Event]) -> tuple[type[Event], ...]:
    """What a tracker wants that has no place for these."""
    return tuple(each for each in TRACKED if each not in kinds)


def place_of(record: Record) -> str:
    """What tells a record from every other one of the run."""
    return f"{record.attempt}.{record.rank}.{record.seq}"


def ranked(key: str, rank: int) -> str:
    """A name there: what other ranks than the first log has a heading of its own."""
    return f"rank{rank}/{key}" if rank else key


def result_name(event: Results, key: str, heading: str) -> str:
    """The name of a result: below heading and data set, unless it is named so already."""
    if not heading or key.startswith((f"{heading}/", f"{heading}_")):
        return key
    dataset = event.dataset if isinstance(event, Evaluated) else None
    return "/".join(part for part in (heading, dataset, key) if part)


def definition(event: MetricDefined) -> dict[str, str]:
    """What is said of a metric."""
    found = {key: getattr(event, key) for key in _DEFINED}
    return {key: str(value) for key, value in found.items() if value is not None}


def beyond(started: RunStarted, steps: Mapping[str, Step]) -> dict[str, Step]:
    """Where an attempt trains steps again.

    Args:
        started: Its beginning.
        steps: For each metric the last step that earlier attempts have delivered.
    """
    resumed_from = started.resumed_from_step
    if resumed_from is None:
        return {}
    return {name: step for name, step in steps.items() if step > resumed_from}


def kind_of(event: Announced) -> str:
    """What a file is."""
    return "checkpoint" if isinstance(event, CheckpointSaved) else event.kind


def is_repeated(event: Announced, memory: KnowsCheckpoint) -> bool:
    """Whether a file was announced before: a trainer tells of its checkpoints as artifacts too.

    Remembers the folder of a checkpoint.
    """
    if isinstance(event, CheckpointSaved):
        memory.checkpoint = event.path
        return False
    return event.kind == "checkpoint" and event.path == memory.checkpoint


def is_wanted(event: Announced, when: str) -> bool:
    """Whether a file is uploaded as soon as it is announced: of `all`, or of `checkpoints`."""
    return when == "all" or (when == "checkpoints" and kind_of(event) in MODELS)


def last_name(path: str) -> str:
    """A file's or folder's own name, whichever system its path is of."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
