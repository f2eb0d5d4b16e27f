"""Syncs a run's checkpoints with Flyte, and shows its log in a deck; inside a task only.

Flyte finds a task's checkpoint and decks by context variables, which only the thread that runs the
task has. They are captured when the sink is bound, there; what may take long is done in the sink's
own thread.
"""

import contextvars
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from bus import (
    Batch,
    BlockingSink,
    CheckpointSaved,
    Event,
    FolderHold,
    JournalReader,
    MetricsLogged,
    Outcome,
    Promise,
    SinkContext,
    SinkSettings,
    State,
)
from sinks._libraries import library
from sinks._log_table import log_table

__all__ = ["FlyteSink"]

log: logging.Logger = logging.getLogger("sinks")


def _task_checkpoint() -> Any:  # noqa: ANN401 - Flyte's own
    """The checkpoint of the task that this thread runs; None outside a task.

    A task cannot run before flytekit is imported, so that nothing is imported to find out.
    """
    flytekit = sys.modules.get("flytekit")
    if flytekit is None:
        return None
    try:
        return flytekit.current_context().checkpoint
    except NotImplementedError:
        return None


class FlyteSink(BlockingSink):
    """Flyte: checkpoints that a retry of the task can restore, and the log as a deck.

    For programs inside a Flyte task; elsewhere it says so. A retry goes on from
    `current_context().checkpoint.restore()`. Decks are shown by tasks with `enable_deck=True`.
    """

    name: ClassVar[str] = "flyte"
    wants: ClassVar[tuple[type[Event], ...]] = (CheckpointSaved,)
    portable: ClassVar[bool] = False
    write_timeout: ClassVar[float] = 3600.0
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="a task has one checkpoint, the latest; its deck is made once, at the run's end",
    )
    help: ClassVar[str] = "https://docs.flyte.org: use it inside a function with @task"

    class Settings(SinkSettings, env_prefix="HOTLOOP_FLYTE_"):
        """What Flyte is given."""

        sync_checkpoints: bool = Field(
            default=True, description="whether checkpoints are uploaded as they are saved"
        )
        save_log_history: bool = Field(
            default=True, description="whether a deck shows everything that was logged"
        )

        @model_validator(mode="after")
        def _inside(self) -> "FlyteSink.Settings":
            if _task_checkpoint() is None:
                raise ValueError("this is not inside a Flyte task")
            return self

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _checkpoint: Any = None
    _deck: Any = None

    def bind(self, context: SinkContext) -> None:
        """Capture the task's checkpoint, its decks and the context in which they are found."""
        self._run_dir = context.run_dir.absolute()
        self._checkpoint = _task_checkpoint()
        if self.settings.save_log_history:
            self._deck = library("flytekit", "flyte").Deck("Log History")
            if not library("flytekit", "flyte").current_context().enable_deck:
                log.warning(
                    "Flyte drops this task's decks; decorate it with @task(enable_deck=True)"
                )
        self._context = contextvars.copy_context()

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Upload the latest checkpoint; it would replace an earlier one of the same batch."""
        if self.settings.sync_checkpoints:
            last = batch.events[-1]
            assert isinstance(last, CheckpointSaved)
            self._sync(Path(last.path))
        return state

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """Fill the deck."""
        del outcome
        if self._deck is not None:
            self._deck.append(log_table(self._entries()))
            self._deck = None
        return state

    def _sync(self, folder: Path) -> None:
        try:
            hold = FolderHold(folder)
        except (FileNotFoundError, NotADirectoryError):
            log.warning("%s was gone before Flyte had it", folder)
            return
        with hold:
            self._context.copy().run(self._checkpoint.save, folder)

    def _entries(self) -> Iterator[Mapping[str, float | None]]:
        """What was logged and still counts; of all attempts, since the journal has them."""
        for record in JournalReader(self._run_dir).records(types=(MetricsLogged,)):
            event = record.event
            if isinstance(event, MetricsLogged) and record.rank == 0:
                yield {**event.metrics, "step": event.step}
