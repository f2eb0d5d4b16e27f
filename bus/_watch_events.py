"""The events of a watchdog: a run that stands still, one that goes on, a rank that is behind."""

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from bus._event import Event, Text
from bus._types import FrozenModel

StallKind: TypeAlias = Literal["rank", "collective", "data", "worker", "silent", "ended"]
"""What holds a run up: code on a rank; a collective that not all came to; data that does not come;
a worker of a data loader that died; a rank that does not answer; a rank whose run is over."""


class RankStacks(FrozenModel):
    """What ranks were doing at one moment; those that did the same stand together.

    Attributes:
        ranks: Which ranks.
        phase: What their loop was at, such as `training` or `evaluation`.
        place: Where the training thread was: file, line and function.
        stacks: Python's stacks of all threads of the lowest of these ranks, the training thread's
            first; it may be cut short.
    """

    ranks: tuple[NonNegativeInt, ...]
    phase: Text
    place: Text
    stacks: Text


class StallDetected(Event):
    """No safe point was passed for longer than steps ever take, or a worker of a loader died.

    Attributes:
        kind: What holds the run up.
        ranks: Where to look: the ranks that hold it up, not those that wait for them.
        phase: What their loop was at.
        seconds: How long ago the last safe point was.
        text: What was found, in a sentence or two.
        stacks: What every rank was doing.
        left_out: How many ranks' stacks are left out for their size.
    """

    urgent: ClassVar[bool] = True

    type: Literal["stall_detected"] = "stall_detected"
    kind: StallKind
    ranks: tuple[NonNegativeInt, ...]
    phase: Text
    seconds: NonNegativeFloat
    text: Text
    stacks: tuple[RankStacks, ...] = Field(default_factory=tuple)
    left_out: NonNegativeInt = 0


class StallEnded(Event):
    """What stood still goes on.

    Attributes:
        ranks: The ranks that the stall was reported of.
        seconds: From the last safe point before the stall to the first one after it.
    """

    urgent: ClassVar[bool] = True

    type: Literal["stall_ended"] = "stall_ended"
    ranks: tuple[NonNegativeInt, ...]
    seconds: NonNegativeFloat


class StragglerDetected(Event):
    """A rank is busy for much longer in each step than the others, which wait for it.

    Attributes:
        rank: Which one.
        busy_seconds: What a step takes it, waiting for other ranks left out.
        usual_seconds: The same in the median of all ranks.
        step_seconds: What a step takes in all.
        place: Where its training thread was most often, waiting left out.
    """

    type: Literal["straggler_detected"] = "straggler_detected"
    rank: NonNegativeInt
    busy_seconds: NonNegativeFloat
    usual_seconds: NonNegativeFloat
    step_seconds: NonNegativeFloat
    place: Text
