"""What the ClearML sink remembers between batches, processes and attempts."""

from typing import Literal, TypeAlias

from pydantic import Field

from sinks._memory import SinkMemory

LastFile: TypeAlias = tuple[Literal["model", "artifact"], str, str, int]
"""What it becomes, its name there, where it is, and the iteration it belongs to."""


class Memory(SinkMemory):
    """The sink's state.

    Attributes:
        task_id: The task on the server.
        attempt: The attempt that the task has been told to be in progress for.
        ended: Whether the task was told that the run is over.
        began: When the first event was made, in Unix seconds.
        counts: By series, how many points without a step it has, and how many were no numbers.
        models: The models of checkpoints, oldest first: their ids and addresses.
        last_files: What to upload when the run ends: by kind.
        checkpoint: Where the last checkpoint is.
        error: What the run failed of.
        reason: Why it was stopped.
    """

    task_id: str | None = None
    attempt: int = 0
    ended: bool = False
    began: float | None = None
    counts: dict[str, int] = Field(default_factory=dict[str, int])
    models: list[tuple[str, str]] = Field(default_factory=list[tuple[str, str]])
    last_files: dict[str, LastFile] = Field(default_factory=dict[str, LastFile])
    checkpoint: str = ""
    error: str = ""
    reason: str = ""
