"""Puts what a batch says into as few requests as possible, in order, with the offsets of its lines.

An offset is the number of lines before it. Sending the same lines at the same offset again changes
nothing, and a gap would make the server overwrite earlier lines; so offsets are counted here, on
from what was acknowledged, and the same records make the same requests each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pydantic import JsonValue

from bus import State
from sinks._wandb_state import Memory, Upload

_BODY: Final = 8 << 20
"""Bytes of lines in one request; 10 MiB are allowed."""


@dataclass(slots=True)
class Configure:
    """Replace the run's configuration."""

    config: str
    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


@dataclass(slots=True)
class Stream:
    """Append lines to the run's files.

    Attributes:
        body: The request.
        done: How many records of the batch are complete after it.
        state: What is to be remembered then.
    """

    body: dict[str, JsonValue]
    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


@dataclass(slots=True)
class Alert:
    """Tell people; `severity` is INFO, WARN or ERROR."""

    title: str
    text: str
    severity: str
    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


@dataclass(slots=True)
class StoreFile:
    """Store a file of the run; `record` is whose it is."""

    path: str
    name: str
    record: int
    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


@dataclass(slots=True)
class StoreArtifact:
    """Store an artifact; `record` is whose it is."""

    upload: Upload
    record: int
    done: int = 0
    state: State = field(default_factory=dict[str, JsonValue])


Step: TypeAlias = Configure | Stream | Alert | StoreFile | StoreArtifact


class Plan:
    """Steps for the records of one batch.

    Args:
        memory: What was acknowledged; changed on the way to what will be.

    Attributes:
        steps: What is to be sent, in order; complete once `ended` was called.
        config: The configuration to send with the next step, if it changed.
        summary: The summary to send with the next step, if it changed.
        records: How many records are complete.
    """

    def __init__(self, memory: Memory) -> None:
        self.steps: list[Step] = []
        self.config: str | None = None
        self.summary: str | None = None
        self.records = 0
        self._memory = memory
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

    def add(self, step: Alert | StoreFile | StoreArtifact) -> None:
        """Add another request; what stands before it is sent before it."""
        self.flush()
        step.done, step.state = self.records, self._memory.state()
        self.steps.append(step)

    def next_record(self) -> None:
        """Everything of a record has been added."""
        self.records += 1
        if self._size > _BODY:
            self.flush()
        elif self._is_empty and self.steps:
            self.steps[-1].done, self.steps[-1].state = self.records, self._memory.state()

    def ended(self) -> list[Step]:
        """The steps, when every record has been added; the last one completes the batch."""
        self.flush()
        return self.steps

    def flush(self) -> None:
        """End the request that is being put together."""
        if self.config is not None:
            before = self.steps[-1].done if self.steps else 0
            state = self.steps[-1].state if self.steps else {}
            self.steps.append(Configure(self.config, before, state))
        if body := self._body():
            self.steps.append(Stream(body, self.records, self._memory.state()))
        elif self.config is not None:
            self.steps[-1].done, self.steps[-1].state = self.records, self._memory.state()
        self.config = self.summary = None
        self._history, self._events, self._console, self._size = [], [], [], 0

    @property
    def _is_empty(self) -> bool:
        return not self._size and self.config is None and self.summary is None

    def _body(self) -> dict[str, JsonValue]:
        memory, files = self._memory, dict[str, JsonValue]()
        if self._history:
            files["wandb-history.jsonl"] = _chunk(memory.history, self._history)
        if self._events:
            files["wandb-events.jsonl"] = _chunk(memory.events, self._events)
        if self._console:
            files["output.log"] = _chunk(memory.console, self._console)
        if self.summary is not None:
            files["wandb-summary.json"] = _chunk(0, [self.summary])
        memory.history += len(self._history)
        memory.events += len(self._events)
        memory.console += len(self._console)
        body: dict[str, JsonValue] = {"files": files} if files else {}
        if files and memory.uploaded:
            body["uploaded"] = [*memory.uploaded]
            memory.uploaded = []
        return body


def _chunk(offset: int, lines: list[str]) -> Mapping[str, JsonValue] | JsonValue:
    return {"offset": offset, "content": [*lines]}
