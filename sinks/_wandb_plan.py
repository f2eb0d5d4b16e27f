"""Puts what a batch says into as few requests as possible, in order, with the offsets of its lines.

An offset is the number of lines before it. Sending the same lines at the same offset again changes
nothing, and a gap would make the server overwrite earlier lines; so offsets are counted here, on
from what was acknowledged, and the same records make the same requests each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from bus import State
from sinks._wandb_state import Memory, Upload
from sinks._wandb_summary import Summary

_BODY: Final = 2 << 20
"""Bytes of lines after which a request is sent. It may have 10 MiB, and one line nearly as many."""


@dataclass(slots=True, kw_only=True)
class Step:
    """Something to send.

    Attributes:
        done: How many records of the batch are complete after it.
        state: What is to be remembered then.
    """

    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


@dataclass(slots=True)
class Configure(Step):
    """Replace the run's configuration."""

    config: str


@dataclass(slots=True)
class Stream(Step):
    """Append lines to the run's files; `body` is the request."""

    body: dict[str, JsonValue]


@dataclass(slots=True, kw_only=True)
class Request(Step):
    """What one record asks for by itself; `record` is its index in the batch."""

    record: int


@dataclass(slots=True)
class Alert(Request):
    """Tell people; `severity` is INFO, WARN or ERROR."""

    title: str
    text: str
    severity: str


@dataclass(slots=True)
class StoreFile(Request):
    """Store a file of the run."""

    path: str
    name: str


@dataclass(slots=True)
class StoreArtifact(Request):
    """Store an artifact."""

    upload: Upload


class Plan:
    """Steps for the records of one batch.

    Args:
        memory: What was acknowledged; changed on the way to what will be.
        summary: The run's, which goes along with the lines that changed it.

    Attributes:
        steps: What is to be sent, in order; complete once `ended` was called.
        config: The configuration to send with the next step, if it changed.
        records: How many records are complete.
    """

    def __init__(self, memory: Memory, summary: Summary) -> None:
        self.steps: list[Step] = []
        self.config: str | None = None
        self.records = 0
        self._memory = memory
        self._summary = summary
        self._history: list[str] = []
        self._events: list[str] = []
        self._console: list[str] = []
        self._size = 0

    def history(self, line: str) -> None:
        """Add a row."""
        self._history.append(line)
        self._size += len(line)

    def event(self, line: str) -> None:
        """Add a row of system metrics."""
        self._events.append(line)
        self._size += len(line)

    def console(self, line: str) -> None:
        """Add a line of the console."""
        self._console.append(line)
        self._size += len(line)

    def add(self, step: Request) -> None:
        """Add another request; what stands before it is sent before it."""
        self._flush()
        self._append(step)

    def next_record(self) -> None:
        """Everything of a record has been added."""
        self.records += 1
        if self._size > _BODY:
            self._flush()
        elif self._is_empty and self.steps:
            self._complete(self.steps[-1])

    def ended(self) -> list[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self._flush()
        return self.steps

    @property
    def _is_empty(self) -> bool:
        return not self._size and self.config is None and not self._summary.changed

    def _flush(self) -> None:
        """End the request that is being put together."""
        if self.config is not None:
            self.steps.append(Configure(self.config))
            self.config = None
        body = self._body()
        if body:
            self._append(Stream(body))
        elif self.steps:
            self._complete(self.steps[-1])

    def _append(self, step: Step) -> None:
        self.steps.append(step)
        self._complete(step)

    def _complete(self, step: Step) -> None:
        step.done, step.state = self.records, self._memory.state()

    def _body(self) -> dict[str, JsonValue]:
        memory, files = self._memory, dict[str, JsonValue]()
        if self._history:
            files["wandb-history.jsonl"] = _chunk(memory.history, self._history)
        if self._events:
            files["wandb-events.jsonl"] = _chunk(memory.events, self._events)
        if self._console:
            files["output.log"] = _chunk(memory.console, self._console)
        if (summary := self._summary.remember()) is not None:
            files["wandb-summary.json"] = _chunk(0, [summary])
        memory.history += len(self._history)
        memory.events += len(self._events)
        memory.console += len(self._console)
        self._history, self._events, self._console, self._size = [], [], [], 0
        body: dict[str, JsonValue] = {"files": files} if files else {}
        if files and memory.uploaded:
            body["uploaded"] = [*memory.uploaded]
            memory.uploaded = []
        return body


def _chunk(offset: int, lines: Sequence[str]) -> dict[str, JsonValue]:
    return {"offset": offset, "content": [*lines]}
