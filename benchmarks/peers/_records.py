"""The vocabulary of the comparison: who is compared, how much is asked, what one block measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict


class Log(Protocol):
    """The call that is timed: takes host numbers and a step, on the training thread."""

    def __call__(self, scalars: dict[str, float], step: int, /) -> object:
        """Log the numbers; whatever is returned is ignored."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """An open run of one peer.

    Attributes:
        log: The call that is timed.
        close: Ends the run the way a user would; it may wait for a backlog.
        kept: Calls found in what the peer stored, read after `close`; None if not countable.
    """

    log: Log
    close: Callable[[], object]
    kept: Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """A row of the table.

    Attributes:
        name: Unique; what the row is called.
        adapter: `module:function` below `benchmarks.peers.adapters`; opens a `Session`.
        distribution: Whose version is printed; None for the empty call.
        repeats: Blocks per round. More than one shows how far equal things differ.
    """

    name: str
    adapter: str
    distribution: str | None
    repeats: int = 1


class Plan(BaseModel):
    """How much one block asks of a peer.

    Attributes:
        calls: Recorded calls per mode.
        warmup: Calls before them in each mode that are not recorded.
        period: Seconds from one paced call to the next.
        budget: Seconds after which a mode ends, with fewer calls.
        close_budget: Seconds after which a close that is still waiting is given up.
        patience: Seconds a block waits at most for other programs to leave the machine alone.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    calls: int = 5000
    warmup: int = 100
    period: float = 0.002
    budget: float = 60.0
    close_budget: float = 10.0
    patience: float = 60.0


class Block(BaseModel):
    """What one process measured of one peer.

    Attributes:
        version: Of the peer's distribution; None where it has none installed.
        paced: Nanoseconds of each recorded paced call.
        flooded: Nanoseconds of each recorded back-to-back call.
        worked: Nanoseconds of the torch work before each recorded paced call.
        asked: All calls made, warm-up included.
        kept: Calls found in what the peer stored; None if not countable.
        closing: Seconds the close took; None if it was given up.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    version: str | None
    paced: list[int]
    flooded: list[int]
    worked: list[int]
    asked: int
    kept: int | None
    closing: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A block that gave no numbers, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One block of one peer: its round, how busy others kept the machine, and how it went."""

    peer: Peer
    round: int
    busy: float
    block: Block | Failure


OURS = Peer("hotloop, durability interval", "ours:open_interval", "hotloop", repeats=2)
EMPTY = Peer("(an empty function)", "empty:open_empty", None)
PEERS = (
    OURS,
    Peer("hotloop, durability write", "ours:open_write", "hotloop", repeats=2),
    Peer("OpenTelemetry logs, batch processor", "otel:open_batch", "opentelemetry-sdk"),
    Peer("comet_ml offline", "comet:open_offline", "comet-ml"),
    Peer("TensorBoard SummaryWriter", "tensorboard:open_writer", "tensorboard"),
    Peer("wandb offline", "wandb:open_offline", "wandb"),
    Peer("mlflow async, SQLite", "mlflow:open_sqlite", "mlflow"),
    Peer("mlflow async, local server", "mlflow:open_server", "mlflow"),
    Peer("neptune-scale offline", "neptune:open_offline", "neptune-scale"),
    EMPTY,
)
