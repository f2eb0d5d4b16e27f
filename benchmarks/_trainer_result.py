"""What `trainer.py` asks of the process that measures a case, and what it gets back."""

from typing import ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Contender: TypeAlias = Literal["bare", "hotloop", "sinks", "transformers", "lightning"]
TINY_BATCH: Final = 8
"""Samples of a step of the tiny model."""

Work: TypeAlias = Literal["tiny", "gpt", "large"]
Device: TypeAlias = Literal["cpu", "cuda"]


class Plan(BaseModel):
    """One case.

    Attributes:
        work: What is trained: a model that consists of launches alone, the demo's GPT, or that
            GPT scaled up.
        contender: Who trains in every second block.
        base: Who trains in the blocks between.
        every_step: Whether the contender logs at every step; otherwise as its defaults say.
        blocks: Blocks of the contender; the base has one more.
        warm: Steps of a block before its clock starts.
        steps: Steps of a block that are timed.
        device: Where it is trained.
        bf16: Whether in bf16, with the model compiled.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    work: Work
    contender: Contender
    base: Contender
    every_step: bool
    blocks: int
    warm: int
    steps: int
    device: Device = "cpu"
    bf16: bool = False


class Result(BaseModel):
    """Mean seconds of a step in each block.

    Attributes:
        base: Of the blocks between.
        measured: Of the contender's blocks.
    """

    base: list[float] = []
    measured: list[float] = []
