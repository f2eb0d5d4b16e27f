"""One case of `publish.py`: times single calls in blocks that alternate with bare events.

Started by it as `python _publish_case.py FOLDER CASE PLAN`; prints a `Result` as JSON.
"""

import gc
import logging
import statistics
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from _publish_cases import CASES, Case, Metrics, Values, make_values, restrict, subscribe
from _publish_result import MANY, Plan, Result
from pydantic import BaseModel, ConfigDict, Field

from bus import MetricsLogged
from runtime import Run

Call: TypeAlias = Callable[[Metrics, int], object]


class Plain(BaseModel):
    """An event as pydantic alone would make it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    type: Literal["plain"] = "plain"
    time: float = Field(default_factory=time.time)
    step: Annotated[int, Field(ge=0)] | None = None
    metrics: dict[str, float]


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


class Meter:
    """Makes fresh values and times the calls that get them, one by one.

    Attributes:
        step: Calls so far.
        rate: Calls a second in the latest paced block.
    """

    def __init__(self, make: Callable[[], Metrics], plan: Plan) -> None:
        self.step = 0
        self.rate = 0.0
        self._make = make
        self._plan = plan
        self._work = make_work(plan.period)

    def paced(self, call: Call) -> "array[int]":
        """Call once per period, right after work; returns nanoseconds of each call."""
        took = array("q")
        began = tick = time.perf_counter()
        for _ in range(self._plan.paced):
            tick = max(tick + self._plan.period, time.perf_counter())
            self._work(tick)
            took.append(self._timed(call))
        self.rate = self._plan.paced / (time.perf_counter() - began)
        return took

    def flooded(self, call: Call) -> "array[int]":
        """Call back to back; returns nanoseconds of each call."""
        return array("q", (self._timed(call) for _ in range(self._plan.flooded)))

    def _timed(self, call: Call) -> int:
        metrics = self._make()
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
        lambda metrics, step: events.append(MetricsLogged(step=step, metrics=metrics)),
        lambda metrics, step: events.append(Plain(step=step, metrics=metrics)),
    )


class Session:
    """A run in the situation that its case describes, and what was measured of it.

    Attributes:
        result: Filled by `alternate` and `finish`.
    """

    def __init__(self, folder: Path, case: Case, plan: Plan) -> None:
        self.result = Result()
        self._case = case
        self._plan = plan
        self._events: deque[BaseModel] = deque()
        self._meter = Meter(make_values(case.values), plan)
        self._run = Run(name="bench", dir=folder, durability=case.durability, options=case.options)
        self._published = 0
        restrict(folder, case)
        subscribe(self._run, case)

    def log(self, metrics: Metrics, step: int) -> None:
        """What is measured."""
        self._run.log(metrics, step=step)

    def alternate(self, mode: Literal["paced", "flooded"]) -> None:
        """Measure blocks of our calls, each between blocks of bare events."""
        block = self._meter.paced if mode == "paced" else self._meter.flooded
        bare, plain = bare_calls(self._case.values, self._events)
        for call in (self.log, bare, plain):
            self._block(block, call)  # not recorded: first calls find nothing ready
        before = self._run.statistics()
        calls: list[int] = []
        medians: dict[str, list[float]] = {"ours": [], "bare": [], "plain": []}
        for _ in range(self._plan.rounds):
            medians["bare"].append(statistics.median(self._block(block, bare)))
            took = self._block(block, self.log)
            calls.extend(took)
            medians["ours"].append(statistics.median(took))
            medians["plain"].append(statistics.median(self._block(block, plain)))
        medians["bare"].append(statistics.median(self._block(block, bare)))
        after = self._run.statistics()
        self.result.clock[mode] = statistics.median(block(lambda _metrics, _step: None))
        busy = after.writer_cpu_seconds - before.writer_cpu_seconds
        self.result.calls[mode] = calls
        self.result.medians[mode] = medians
        self.result.writer[mode] = busy / len(calls)
        if mode == "paced":
            self.result.rate = self._meter.rate

    def tenths(self) -> None:
        """Make very many calls; the durations of the first tenth and of the last."""
        blocks = [self._block(self._meter.flooded, self.log) for _ in range(self._plan.blocks)]
        tenth = len(blocks) // 10
        self.result.calls["first"] = [each for block in blocks[:tenth] for each in block]
        self.result.calls["last"] = [each for block in blocks[-tenth:] for each in block]

    def finish(self) -> None:
        """Close the run and see that our own counts agree with its."""
        if self._case.drain:
            self._run.flush()
        found = self._run.statistics()
        lifecycle = 1 + sum(each.failures > 0 for each in found.subscribers.values())
        assert found.published == self._published + lifecycle, (found, self._published)
        assert found.rejected_count == 0, found.rejected
        self.result.published = self._published
        self.result.dropped = found.dropped_count
        self.result.disk = found.disk_error and found.disk_error.split(":")[0]
        self._run.close(timeout=2.0)

    def _block(self, block: Callable[[Call], "array[int]"], call: Call) -> "array[int]":
        took = block(call)
        if call == self.log:
            self._published += len(took)
        if self._case.drain:
            self._run.flush()
        self._events.clear()
        gc.collect()  # what one kind of block leaves behind is not another's cost
        return took


def main() -> None:
    """Measure the case that the command line names."""
    folder, name, plan = sys.argv[1:]
    torch.set_num_threads(1)
    logging.disable()
    session = Session(Path(folder), CASES[name], Plan.model_validate_json(plan))
    if name == MANY:
        session.tenths()
    else:
        session.alternate("paced")
        session.alternate("flooded")
    session.finish()
    print(session.result.model_dump_json())


if __name__ == "__main__":
    main()
