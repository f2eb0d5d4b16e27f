"""What the TensorBoard sink remembers between batches and processes."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from bus import Outcome

__all__ = ["Remembered", "Stream"]


class Stream(BaseModel):
    """How far the points of one rank were written.

    Attributes:
        attempt: The attempt they were of.
        file: The event file that this process writes; "" before the first batch.
        bytes: Its length when the last batch was acknowledged.
        step: The last step met, for events that have none.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    attempt: int
    file: str = ""
    bytes: NonNegativeInt = 0
    step: NonNegativeInt = 0


class Remembered(BaseModel):
    """Everything that is remembered.

    Attributes:
        folder: Where the files are, relative to the run's folder if it lies in there.
        next: Name of the next event file. It is acknowledged before the file is made, so that a
            process that goes on knows what to remove.
        number: The whole seconds in that name, which order the files.
        streams: By rank.
        hparams: The run's settings so far.
        hparams_shown: Whether they are in an event file.
        started: When the run began, in Unix seconds.
        latest: When the latest event happened, in Unix seconds.
        resumed_attempt: The latest attempt that went on from a checkpoint.
        resumed_step: That checkpoint's step.
        trainer: Whether it is `runtime.Trainer` that trains.
        closed: The outcome that the event files tell.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    folder: str
    next: str = ""
    number: int = 0
    streams: dict[str, Stream] = Field(default_factory=dict[str, Stream])
    hparams: dict[str, bool | float | str] = Field(default_factory=dict[str, bool | float | str])
    hparams_shown: bool = False
    started: float = 0.0
    latest: float = 0.0
    resumed_attempt: int = 0
    resumed_step: int = 0
    trainer: bool = False
    closed: Outcome | None = None
