"""What the Neptune sink remembers between batches and processes."""

from pydantic import Field

from bus import RunStarted
from sinks._memory import SinkMemory
from sinks._tracked import beyond


class Memory(SinkMemory):
    """The sink's state.

    Attributes:
        run_id: The run on the server.
        short_id: Its name there, such as DEM-1.
        series: For each series the step and the time in milliseconds of its last point.
        mask: For each series the step up to which earlier attempts have delivered it, where that is
            beyond the step that this attempt went on from.
        masked_for: The attempt that the mask is for.
        kept: The folder of the checkpoint that is there now, by kind.
        stored: The checkpoint that was uploaded last, under each attribute: its path and step.
        uploading: The upload that is under way, or was the last.
        uploaded: How many files of it are stored.
        dropped: Points and values that were not stored, by reason.
    """

    run_id: str | None = None
    short_id: str = ""
    series: dict[str, tuple[float, int]] = Field(default_factory=dict[str, tuple[float, int]])
    mask: dict[str, float] = Field(default_factory=dict[str, float])
    masked_for: int = 1
    kept: dict[str, str] = Field(default_factory=dict[str, str])
    stored: dict[str, str] = Field(default_factory=dict[str, str])
    uploading: str = ""
    uploaded: int = 0
    dropped: dict[str, int] = Field(default_factory=dict[str, int])

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what was not stored."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def resume(self, started: RunStarted) -> None:
        """Note which steps earlier attempts have delivered, at the beginning of this one."""
        if started.attempt > self.masked_for:
            self.masked_for = started.attempt
            self.mask = beyond(started, {path: step for path, (step, _) in self.series.items()})
