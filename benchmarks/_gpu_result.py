"""What `gpu.py` asks of the process that times single calls, and what it gets back."""

from typing import ClassVar

from _trainer_result import Device
from pydantic import BaseModel, ConfigDict


class TakingPlan(BaseModel):
    """How often, and where.

    Attributes:
        device: Where the scalars are.
        calls: Calls of each kind.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    device: Device
    calls: int


class TakingResult(BaseModel):
    """Nanoseconds of single calls.

    Attributes:
        calls: By what was called.
        parameters: Of the model that the trainers train.
        batch: Its sequences in a step, and their length.
    """

    calls: dict[str, list[int]]
    parameters: int
    batch: str
