"""What the Comet sink remembers between batches, processes and attempts."""

from typing import NamedTuple

from pydantic import Field

from sinks._memory import SinkMemory


class File(NamedTuple):
    """A file or folder that waits for the run's end.

    Attributes:
        source: Where it is.
        kind: What Comet calls it: "asset" or "model-element".
        group: The model it belongs to; "" if to none.
        step: The step it is of.
    """

    source: str
    kind: str
    group: str = ""
    step: int | None = None


class Memory(SinkMemory):
    """The sink's state.

    Attributes:
        experiment_key: The experiment there.
        steps: For each metric the highest step that was delivered.
        mask: For each metric the step up to which earlier attempts have delivered it.
        masked_for: The attempt that the mask is for.
        epoch: The last step that came with an epoch, and that epoch.
        offset: Console lines delivered so far; None before the first.
        trainer: Whether it is `runtime.Trainer` that trains.
        checkpoint: The folder of the checkpoint that was announced last.
        waiting: Files to upload when the run ends, by their place there.
        partly: How many files or points are there of each upload or stretch under way.
        ahead: For each kind of data, up to which record it is there, where that is further than
            what was acknowledged.
        ahead_in: The attempt and rank that those records are of.
        counts: How many texts and models there are, each of which Comet limits.
        left_out: What was not sent, and how often: by the reason.
        error: Why the run failed, once that is known.
    """

    experiment_key: str | None = None
    steps: dict[str, int] = Field(default_factory=dict[str, int])
    mask: dict[str, int] = Field(default_factory=dict[str, int])
    masked_for: int = 1
    epoch: tuple[int, float] | None = None
    offset: int | None = None
    trainer: bool = False
    checkpoint: str = ""
    waiting: dict[str, File] = Field(default_factory=dict[str, File])
    partly: dict[str, int] = Field(default_factory=dict[str, int])
    ahead: dict[str, int] = Field(default_factory=dict[str, int])
    ahead_in: str = ""
    counts: dict[str, int] = Field(default_factory=dict[str, int])
    left_out: dict[str, int] = Field(default_factory=dict[str, int])
    error: str | None = None

    def enter(self, stream: str) -> None:
        """Records of this attempt and rank come next; what is known of others' is over."""
        if stream != self.ahead_in:
            self.ahead, self.ahead_in = {}, stream

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what is not sent."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count
