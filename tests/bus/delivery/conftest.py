"""Runs on disk, sinks that do as they are told, and deliveries on virtual time."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio
import pytest
import trio.testing

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Batch,
    BatchLimits,
    Bus,
    Event,
    MetricsLogged,
    Pace,
    Record,
    RunEnded,
    RunInfo,
    RunStarted,
    Sink,
    SinkContext,
    State,
    sink_context,
)
from bus._delivery import Delivery
from bus._feed import Feed

Answer = Callable[[Batch], object]


class ScriptedSink(Sink):
    """Keeps what it is given; `answers` says what happens at each write, None that it is fine."""

    name = "scripted"
    wants = (MetricsLogged,)

    def __init__(self, answers: Iterable[BaseException | Answer | None] = ()) -> None:
        super().__init__()
        self.answers = list(answers)
        self.batches: list[list[int]] = []
        self.got: list[Record] = []
        self.times: list[float] = []
        self.calls: list[str] = []

    @property
    def values(self) -> list[float]:
        return [r.event.metrics["n"] for r in self.got if isinstance(r.event, MetricsLogged)]

    async def open(self, context: SinkContext, state: State) -> State:
        del context
        self.calls.append("open")
        return state

    async def write(self, batch: Batch, state: State) -> State:
        self.times.append(anyio.current_time())
        self.batches.append([record.seq for record in batch])
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            result = answer(batch)
            if isinstance(result, Awaitable):
                await result
        self.got += batch
        return {**state, "written": len(self.got)}

    async def close(self, outcome: str, state: State) -> State:
        self.calls.append(f"close {outcome}")
        return state

    async def release(self) -> None:
        self.calls.append("release")


async def inline(function: Callable[..., object], *arguments: object) -> object:
    """Instead of a thread, which virtual time would not wait for."""
    return function(*arguments)


@dataclass
class Journalled:
    """A run on disk."""

    dir: Path
    context: SinkContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = sink_context(self.dir)

    def delivery(self, sink: Sink, **options: object) -> Delivery:
        options.setdefault("disk", inline)
        options.setdefault("pace", Pace(rearm=600.0))
        return Delivery(sink, self.context, Feed(self.dir), **options)


class WriteRun(Protocol):
    def __call__(
        self,
        events: Sequence[Event] | int,
        *,
        attempt: int = 1,
        rank: int = 0,
        ended: bool = True,
        from_step: int | None = None,
    ) -> Journalled: ...


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Writes an attempt's journal: metrics n = 0, 1, ... at steps of the same number, or events."""

    def write(
        events: Sequence[Event] | int,
        *,
        attempt: int = 1,
        rank: int = 0,
        ended: bool = True,
        from_step: int | None = None,
    ) -> Journalled:
        run_dir = tmp_path / "run"
        run_dir.mkdir(exist_ok=True)
        new = not (run_dir / "run.json").exists()
        info = RunInfo.new("run", "tests") if new else RunInfo.load(run_dir)
        if info.attempt(attempt) is None:
            info.attempts.append(AttemptInfo.here(attempt, from_step))
            info.save(run_dir)
        bus = Bus(run_dir / JOURNAL_FOLDER, attempt=attempt, rank=rank)
        bus.publish(
            RunStarted(
                name="run",
                run_id=info.id,
                project="tests",
                attempt=attempt,
                resumed_from_step=from_step,
                config={},
                facts={},
            )
        )
        metrics = (
            [MetricsLogged(step=n, metrics={"n": float(n)}) for n in range(events)]
            if isinstance(events, int)
            else events
        )
        for event in metrics:
            bus.publish(event)
        account = bus.close(10, last=(lambda: RunEnded(outcome="finished")) if ended else None)
        assert account.written
        return Journalled(run_dir)

    return write


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Trio with a clock that jumps as soon as everybody waits."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class LimitedSink(ScriptedSink):
    """Ten records at a time."""

    limits = BatchLimits(events=10, age=0.0)
