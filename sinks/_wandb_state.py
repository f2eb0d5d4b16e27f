"""What the W&B sink remembers between batches, processes and attempts."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from sinks._memory import SinkMemory


class Upload(BaseModel):
    """A folder or file that becomes an artifact.

    Attributes:
        path: Where it is here.
        name: The artifact's name.
        kind: Its type, such as "model".
        aliases: Names of this version.
        metadata: Anything else about it, as JSON.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    path: str
    name: str
    kind: str
    aliases: tuple[str, ...]
    metadata: str = "{}"


class Memory(SinkMemory):
    """The sink's state. JSON texts keep NaN and infinities, which a cursor's own JSON would not.

    Attributes:
        run_id: The run there.
        entity: Whose it is.
        project: What it belongs to.
        started: When its time begins, in Unix seconds.
        history: Lines of history that the server has acknowledged.
        events: Lines of system metrics.
        console: Lines of the console.
        step: The next row's `_step`.
        config: The run's configuration by key, as JSON.
        about: What else stands in the configuration, under "hotloop".
        defined: Definitions of metrics by name.
        summary: The last values, as JSON.
        aggregates: For metrics with a defined summary: its value so far and of how many, as JSON.
        delivered: For each metric the last global step that was delivered.
        mask: For each metric the global step up to which an earlier attempt has delivered it.
        floor: The same for all of them, where the server had more than was ever sent.
        masked_for: The attempt that the masks are for.
        trainer: Whether it is `runtime.Trainer` that trains.
        uploaded: Files that are stored and have not been named to the stream.
        last: What to upload when the run ends.
        masked: How many values were left out for them.
        dropped: What else was left out, by reason.
        closed: The outcome that the server was told.
    """

    run_id: str | None = None
    entity: str = ""
    project: str = ""
    started: float = 0.0
    history: int = 0
    events: int = 0
    console: int = 0
    step: int = 0
    config: str = "{}"
    about: dict[str, int | str] = Field(default_factory=dict[str, int | str])
    defined: dict[str, dict[str, str]] = Field(default_factory=dict[str, dict[str, str]])
    summary: str = "{}"
    aggregates: str = "{}"
    delivered: dict[str, int] = Field(default_factory=dict[str, int])
    mask: dict[str, int] = Field(default_factory=dict[str, int])
    floor: int = -1
    masked_for: int = 1
    trainer: bool = False
    uploaded: list[str] = Field(default_factory=list[str])
    last: Upload | None = None
    masked: int = 0
    dropped: dict[str, int] = Field(default_factory=dict[str, int])
    closed: str | None = None
