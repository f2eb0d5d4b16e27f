"""What the MLflow sink remembers between batches, processes and attempts."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from sinks._memory import SinkMemory
from sinks._mlflow_names import Names
from sinks._mlflow_translation import Ledger


class Memory(SinkMemory):
    """The sink's state.

    Attributes:
        run_id: The run on the server.
        borrowed: Whether that run belongs to somebody else, who says how it ended.
        metrics: Names given to metrics that could not keep theirs.
        params: Names given to parameters that could not keep theirs.
        mask: For each metric the step up to which earlier attempts have delivered it.
        masked_for: The attempt that the mask is for.
        last_files: What to upload when the run ends: by kind, the place there and the path here.
        checkpoint: The folder of the checkpoint that was announced last.
        uploading: Which upload is under way.
        uploaded: How many files of it are stored.
        end_time: When the last event was made, in milliseconds since 1970.
    """

    run_id: str | None = None
    borrowed: bool = False
    metrics: dict[str, str] = Field(default_factory=dict[str, str])
    params: dict[str, str] = Field(default_factory=dict[str, str])
    mask: dict[str, int] = Field(default_factory=dict[str, int])
    masked_for: int = 1
    last_files: dict[str, tuple[str, str]] = Field(default_factory=dict[str, tuple[str, str]])
    checkpoint: str = ""
    uploading: str = ""
    uploaded: int = 0
    end_time: int | None = None


def ledger(memory: Memory, metrics: Iterable[str], params: Mapping[str, str]) -> Ledger:
    """What the server holds, with the names given so far."""
    return Ledger(
        metrics=Names(memory.metrics, set(metrics)),
        params=Names(memory.params, set(params)),
        values=dict(params),
        mask=dict(memory.mask),
        checkpoint=memory.checkpoint,
    )
