"""What `step_cost.py` asks of the process that measures a case, and what it gets back."""

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

OPERATIONS: Final = 500
"""Tiny operations of a step."""


class Plan(BaseModel):
    """One case.

    Attributes:
        rate: Events a second.
        subscribers: Live subscribers that read every event.
        blocks: Blocks with logging; without it there is one more.
        seconds: How long a block lasts.
        deliver: Where three busy sinks are served; None for no sinks.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    rate: float
    subscribers: int
    blocks: int
    seconds: float
    deliver: Literal["thread", "process"] | None = None


class Result(BaseModel):
    """What a case measured; a number for each block.

    Attributes:
        base: Mean step in seconds without logging.
        base_p99: 99th percentile of those steps.
        ours: Mean step with logging.
        ours_p99: 99th percentile of those steps.
        writer: CPU time of the writer thread in seconds per event.
        share: CPU time of our threads a second, by the run's own statistics.
        kernel_share: The same by the kernel's.
        rate: Events a second that were reached.
    """

    base: list[float] = []
    base_p99: list[float] = []
    ours: list[float] = []
    ours_p99: list[float] = []
    writer: list[float] = []
    share: list[float] = []
    kernel_share: list[float] = []
    rate: list[float] = []
