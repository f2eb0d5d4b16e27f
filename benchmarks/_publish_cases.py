"""The cases of `publish.py`: what is logged, who listens, and what is wrong with the disk."""

import random
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anyio
import torch
from _publish_result import MANY

from bus import BusOptions, Durability, Evaluated, EventStream, MetricsLogged
from runtime import Run, Scalar

NAMES: Final = ("loss", "accuracy", "grad_norm", "lr", "tokens_per_second", "step_time")

Metrics: TypeAlias = "Mapping[str, Scalar]"
Values: TypeAlias = Literal["floats", "integer", "tensors"]
Audience: TypeAlias = Literal["reading", "sleeping", "spinning", "raising"]


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


_SMALL_MEMORY: Final = BusOptions(buffer_bytes=1 << 20)

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
    MANY: Case(),
}


def make_values(kind: Values) -> Callable[[], Metrics]:
    """Return a maker of six fresh values."""
    uniform = random.Random(0).random  # noqa: S311 - any fresh number will do
    if kind == "tensors":
        return lambda: {name: torch.tensor(uniform()) for name in NAMES}
    if kind == "integer":
        return lambda: {name: uniform() for name in NAMES[1:]} | {"epoch": int(uniform() * 100)}
    return lambda: {name: uniform() for name in NAMES}


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
