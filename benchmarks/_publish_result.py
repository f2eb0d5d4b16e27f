"""What `publish.py` asks of the process that measures a case, and what it gets back."""

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict

MANY: Final = "very many events"
"""The case that is measured by `Session.tenths`."""


class Plan(BaseModel):
    """How much is measured.

    Attributes:
        rounds: Blocks of our calls.
        paced: Calls in a paced block.
        flooded: Calls in a flooded block.
        period: Seconds between two paced calls.
        blocks: Flooded blocks in the case that makes very many calls.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    rounds: int
    paced: int
    flooded: int
    blocks: int
    period: float = 0.0005


class Result(BaseModel):
    """What a case measured.

    Attributes:
        calls: Nanoseconds of each call of `run.log`, by mode.
        medians: Medians in nanoseconds, by mode, of each block of our calls ("ours"), of bare
            events ("bare", one block more) and of events as pydantic alone makes them ("plain").
        clock: What the clock and an empty call take in nanoseconds, by mode; in every number.
        rate: Paced calls a second that were reached.
        writer: CPU time of the writer thread in seconds per event, by mode.
        published: Events published.
        dropped: How many of them were dropped.
        disk: What the disk says at the end; None if all is well.
    """

    calls: dict[str, list[int]] = {}
    medians: dict[str, dict[str, list[float]]] = {}
    clock: dict[str, float] = {}
    rate: float = 0.0
    writer: dict[str, float] = {}
    published: int = 0
    dropped: int = 0
    disk: str | None = None
