"""One case of `publish.py`: times single calls in blocks that alternate with bare events.

Started by it as `python _publish_case.py FOLDER CASE PLAN`; prints a `Result` as JSON.
"""

import logging
import random
import resource
import statistics
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import anyio
import torch
from pydantic import BaseModel, ConfigDict, Field

from bus import BusOptions, Durability, Evaluated, EventStream, MetricsLogged, Statistics
from runtime import Run, Scalar

NAMES: Final = ("loss", "accuracy", "grad_norm", "lr", "tokens_per_second", "step_time")

Metrics: TypeAlias = "dict[str, Scalar]"
Call: TypeAlias = Callable[[Metrics, int], object]
Values: TypeAlias = Literal["floats", "integer", "tensors"]
Audience: TypeAlias = Literal["reading", "sleeping", "spinning", "raising"]


class Plan(BaseModel):
    """How much is measured.

    Attributes:
        rounds: Blocks of each kind.
        paced: Calls in a paced block.
        flooded: Calls in a flooded block.
        period: Seconds between two paced calls.
        events: Calls in all, for the case that makes very many.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    rounds: int
    paced: int
    flooded: int
    period: float = 0.0005
    events: int


class Result(BaseModel):
    """What a case measured: nanoseconds of each call of `run.log`, and medians by block.

    Attributes:
        calls: Durations by mode.
        ours: Median of each block, by mode.
        bare: Medians of the bare blocks around them, one more.
        plain: Medians of the blocks with a model of the same fields and no checks of ours.
        clock: What an empty call takes; it is in every number.
        rate: Paced calls a second that were reached, at the median.
        writer: CPU time of our threads per event, in seconds, by mode.
        dropped: Events dropped, of all that were published.
        published: Events published.
        disk: What the journal says of the disk at the end.
    """

    calls: dict[str, list[int]] = {}
    ours: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    clock: float = 0.0
    rate: float = 0.0
    writer: dict[str, float] = {}
    dropped: int = 0
    published: int = 0
    disk: str | None = None


class Plain(BaseModel):
    """An event as pydantic alone would make it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    type: Literal["plain"] = "plain"
    time: float = Field(default_factory=time.time)
    step: Annotated[int, Field(ge=0)] | None = None
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is special about a case.

    Attributes:
        values: What is logged.
        audience: What the subscribers do.
        subscribers: How many there are.
        durability: Who journals.
        options: Everything else; makes `durability` moot.
        drain: Whether the writer may catch up between two blocks.
        file_limit: Bytes beyond which this process may write no file.
        fill: Whether the disk is filled before the first call.
    """

    values: Values = "floats"
    audience: Audience = "reading"
    subscribers: int = 0
    durability: Durability = "interval"
    options: BusOptions | None = None
    drain: bool = True
    file_limit: int | None = None
    fill: bool = False


_SMALL_MEMORY: Final = BusOptions(buffer_bytes=1 << 18)

CASES: Final[dict[str, Case]] = {
    "no subscriber": Case(),
    "1 idle subscriber": Case(subscribers=1),
    "4 idle subscribers": Case(subscribers=4),
    "16 idle subscribers": Case(subscribers=16),
    "one sleeps 5 ms of 15": Case(subscribers=1, audience="sleeping"),
    "one computes 5 ms of 15": Case(subscribers=1, audience="spinning"),
    "one raises at every event": Case(subscribers=1, audience="raising"),
    # The writer looks once a minute, so every call finds the queue full and drops an event.
    "full queue": Case(options=BusOptions(queue_events=64, flush_interval=60.0), drain=False),
    "full disk": Case(options=_SMALL_MEMORY, fill=True),
    "file size limit": Case(options=_SMALL_MEMORY, file_limit=16 << 10),
    'durability="write"': Case(durability="write"),
    "an integer among the floats": Case(values="integer"),
    "6 CPU tensors": Case(values="tensors"),
}


def make_values(kind: Values) -> Callable[[], Metrics]:
    """Return a maker of six fresh values."""
    uniform = random.Random(0).random  # noqa: S311 - any fresh number will do
    if kind == "tensors":
        return lambda: {name: torch.tensor(uniform()) for name in NAMES}
    if kind == "integer":
        return lambda: {name: uniform() for name in NAMES[1:]} | {"epoch": int(uniform() * 100)}
    return lambda: {name: uniform() for name in NAMES}


def make_work(period: float) -> Callable[[float], None]:
    """Return torch work that lasts until a given time on the performance counter.

    It ends with a pass over 4 MiB, more than a core's own caches, so that they hold the work and
    not the logger. Each operation gives the GIL away, as in a training step.
    """
    left, right, stream = torch.randn(64, 64), torch.randn(64, 64), torch.randn(1 << 20)

    def passed() -> float:
        began = time.perf_counter()
        stream.mul_(1.0)
        return time.perf_counter() - began

    last = statistics.median(passed() for _ in range(200))
    if last > period:
        stream = stream[: int(len(stream) * period / last / 2)]
        last = period / 2

    def work(until: float) -> None:
        while time.perf_counter() < until - last:
            torch.matmul(left, right)
        stream.mul_(1.0)

    return work


@dataclass(slots=True)
class Meter:
    """Makes fresh values and times the calls that get them, one by one.

    Attributes:
        step: Calls so far.
        seconds: How long the latest paced block took.
    """

    make: Callable[[], Metrics]
    work: Callable[[float], None]
    plan: Plan
    step: int = 0
    seconds: float = field(default=0.0)

    def paced(self, call: Call) -> "array[int]":
        """Call once per period, right after work; returns nanoseconds of each call."""
        took = array("q")
        began = tick = time.perf_counter()
        for _ in range(self.plan.paced):
            tick = max(tick + self.plan.period, time.perf_counter())
            self.work(tick)
            took.append(self._timed(call))
        self.seconds = time.perf_counter() - began
        return took

    def flooded(self, call: Call) -> "array[int]":
        """Call back to back; returns nanoseconds of each call."""
        return array("q", (self._timed(call) for _ in range(self.plan.flooded)))

    def _timed(self, call: Call) -> int:
        metrics = self.make()
        step = self.step = self.step + 1
        began = time.perf_counter_ns()
        call(metrics, step)
        return time.perf_counter_ns() - began


def bare_calls(kind: Values, events: deque[BaseModel]) -> tuple[Call, Call]:
    """A validated event of ours and one of pydantic alone, each with an append."""
    if kind == "tensors":

        def read(metrics: Metrics) -> dict[str, float]:
            return {key: float(value) for key, value in metrics.items()}

        return (
            lambda metrics, step: events.append(MetricsLogged(step=step, metrics=read(metrics))),
            lambda metrics, step: events.append(Plain(step=step, metrics=read(metrics))),
        )
    return (
        lambda metrics, step: events.append(MetricsLogged(step=step, metrics=metrics)),  # type: ignore[arg-type]  # floats
        lambda metrics, step: events.append(Plain(step=step, metrics=metrics)),  # type: ignore[arg-type]  # floats
    )


def subscribe(run: Run, case: Case) -> None:
    """Add the case's subscribers."""
    for number in range(case.subscribers):
        name = f"{case.audience}-{number}"
        if case.audience == "reading":
            run.subscribe(MetricsLogged, name=name)(_reading)
        elif case.audience == "raising":
            run.on(MetricsLogged, name=name)(_raising)
        else:
            run.subscribe(Evaluated, name=name)(
                _sleeping if case.audience == "sleeping" else _spinning
            )


async def _reading(events: EventStream[MetricsLogged]) -> None:
    async for _ in events:
        pass


async def _raising(event: MetricsLogged) -> None:
    raise ValueError(f"no use for step {event.step}")


async def _sleeping(_events: EventStream[Evaluated]) -> None:
    while True:
        time.sleep(0.005)  # noqa: ASYNC251 - blocking the loop is what this subscriber is for
        await anyio.sleep(0.010)


async def _spinning(_events: EventStream[Evaluated]) -> None:
    while True:
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            pass
        await anyio.sleep(0.010)


def restrict(folder: Path, case: Case) -> None:
    """Leave no room on the disk, in the way the case says."""
    if case.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (case.file_limit, case.file_limit))
    if case.fill:
        block = bytes(4096)
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(block):
                    pass
            except OSError:
                return


def measure_case(folder: Path, case: Case, plan: Plan) -> Result:
    """Run the case's paced and flooded blocks."""
    result = Result()
    events: deque[BaseModel] = deque()
    meter = Meter(make_values(case.values), make_work(plan.period), plan)
    run = Run(name="bench", dir=folder, durability=case.durability, options=case.options)
    restrict(folder, case)
    subscribe(run, case)
    kinds = (lambda metrics, step: run.log(metrics, step=step), *bare_calls(case.values, events))
    modes: dict[str, Callable[[Call], array[int]]] = {
        "paced": meter.paced,
        "flooded": meter.flooded,
    }
    for mode, block in modes.items():
        for call in kinds:
            block(call)  # not recorded: first calls find nothing ready
        _settle(run, case)
        _alternate(result, mode, block, kinds, events, run, case)
        if mode == "paced":
            result.rate = plan.paced / meter.seconds
    result.clock = _clock_overhead(meter)
    _account(result, run.statistics(), (plan.rounds + 1) * (plan.paced + plan.flooded))
    run.close(timeout=2.0)
    return result


def _alternate(
    result: Result,
    mode: str,
    block: Callable[[Call], "array[int]"],
    kinds: tuple[Call, Call, Call],
    events: deque[BaseModel],
    run: Run,
    case: Case,
) -> None:
    ours, bare, plain = kinds
    calls: list[int] = []
    medians: tuple[list[float], list[float], list[float]] = ([], [statistics.median(block(bare))], [])
    before = run.statistics()
    for _ in range(len_rounds(result, block)):
        pass
    del calls, ours, plain, medians, before, events, case, mode


def len_rounds(result: Result, block: Callable[[Call], "array[int]"]) -> int:
    return 0
