"""What `bridges.py` asks of the process that measures a case, and what it gets back."""

from typing import ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Clock: TypeAlias = Literal["wall", "thread", "process"]
CLOCKS: Final[tuple[Clock, ...]] = ("wall", "thread", "process")
Library: TypeAlias = Literal["transformers", "lightning", "accelerate"]


class BridgePlan(BaseModel):
    """One case.

    Attributes:
        library: Whose trainings.
        blocks: Blocks with our bridge; there is one more with the library's own logger.
        warm: Steps of a block before its clock starts.
        steps: Steps of a block that are timed.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    library: Library
    blocks: int
    warm: int
    steps: int


class BridgeResult(BaseModel):
    """Mean seconds of a step in each block, by each clock.

    Attributes:
        base: Of the blocks with the library's own logger.
        measured: Of those with our bridge.
    """

    base: list[dict[Clock, float]] = []
    measured: list[dict[Clock, float]] = []
