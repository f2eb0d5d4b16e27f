"""One rank of the job that test_run.py starts: scenario after scenario, each a run of its own.

Every rank writes down what it saw, as JSON, by scenario.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import torch.distributed

from bus import (
    Batch,
    Control,
    Evaluated,
    EventStream,
    MetricsLogged,
    RanksError,
    Save,
    Sink,
    SinkContext,
    SinkSettings,
    State,
    Stop,
)
from runtime import Run

FOLDER = Path(sys.argv[1])
Seen = dict[str, object]


class Lines(Sink):
    """Appends `rank value` lines to a file."""

    name = "lines"
    wants = (MetricsLogged,)

    class Settings(SinkSettings, env_prefix="LINES_SINK_"):
        path: Path

    async def open(self, context: SinkContext, state: State) -> State:
        del context
        return state

    async def write(self, batch: Batch, state: State) -> State:
        with self.settings.path.open("a") as file:
            file.writelines(f"{batch.rank} {r.event.metrics['n']}\n" for r in batch)
        return state


class AllLines(Lines):
    """The same for every rank's metrics."""

    name = "all_lines"
    ranks: ClassVar = "all"

    class Settings(SinkSettings, env_prefix="ALL_LINES_SINK_"):
        path: Path


def meet() -> None:
    torch.distributed.all_reduce(torch.ones(1))


def one_run() -> Seen:
    """Which run it is, who journals, who delivers."""
    sinks = [Lines(path=FOLDER / "lines"), AllLines(path=FOLDER / "all_lines")]
    with Run("one", dir=FOLDER / "runs", sinks=sinks) as run:
        for step in range(5):
            run.log({"n": run.rank * 100 + step}, step=step)
        assert run.flush()
        meet()  # rank 0 delivers what others have journalled, and not what they will
    return {"name": run.name, "id": run.id, "dir": str(run.dir), "attempt": run.attempt}


def own_disks() -> Seen:
    """Rank 0 on one machine, the others on another: the same path is another folder there."""
    rank = int(os.environ["RANK"])
    machine = FOLDER / ("far" if rank else "near")
    machine.mkdir(exist_ok=True)
    os.chdir(machine)
    local, os.environ["LOCAL_RANK"] = os.environ["LOCAL_RANK"], str(max(0, rank - 1))
    here = Path("/proc/self/cwd")
    sinks = [Lines(path=here / "lines"), AllLines(path=here / "all_lines")]
    for n in range(2):
        with Run("own", dir=here / "runs", sinks=sinks, resume="auto") as run:
            run.log({"n": run.rank * 100 + n}, step=n)
            assert run.flush()
            meet()
    os.environ["LOCAL_RANK"] = local
    return {"id": run.id, "attempt": run.attempt}


def again() -> Seen:
    """The next attempt at the same run."""
    with Run("one", dir=FOLDER / "runs", resume="auto", from_step=3) as run:
        pass
    return {"id": run.id, "attempt": run.attempt, "resumed": run.resumed}


def subscribers() -> Seen:
    """Those of rank 0, and those that want to run everywhere."""
    seen: list[str] = []
    with Run("subscribers", dir=FOLDER / "runs") as run:
        console = run.console("lines")

        @run.on(MetricsLogged)
        async def first(event: MetricsLogged) -> None:
            seen.append(f"first {event.metrics['n']:g}")

        @run.subscribe(MetricsLogged, ranks="all")
        async def each(events: EventStream[MetricsLogged]) -> None:
            async for event in events:
                seen.append(f"each {event.metrics['n']:g}")  # noqa: PERF401 - as people write it

        run.log({"n": float(run.rank)}, step=0)
    return {"seen": sorted(seen), "console": console.looks}


def from_a_subscriber() -> Seen:
    """Rank 0's subscriber stops everybody."""
    last = 0
    with Run("from-a-subscriber", dir=FOLDER / "runs") as run:

        @run.subscribe(MetricsLogged)
        async def enough(events: EventStream[MetricsLogged], control: Control) -> None:
            async for event in events:
                if event.metrics["n"] >= 3:
                    control.request(Stop(reason="enough"))
                    return

        for step in range(100_000):
            run.log({"n": step}, step=step)
            last = step
            meet()
            if run.safe_point(step).stop:
                break
    return {"last": last, "stopped": last < 99_999}


def deciders() -> Seen:
    """Asked on rank 0, obeyed at once by all."""
    asked: list[int] = []
    last = 0
    with Run("deciders", dir=FOLDER / "runs") as run:

        @run.decider(Evaluated, deadline=60)
        async def enough(event: Evaluated) -> Stop | None:
            asked.append(event.step or 0)
            return Stop(reason="enough") if event.metrics["accuracy"] > 0.5 else None

        for step in range(10):
            run.publish(Evaluated(step=step, metrics={"accuracy": step / 10}))
            last = step
            if run.safe_point(step).stop:
                break
    return {"last": last, "asked": asked}


def guarded() -> Seen:
    """The loss of rank 1 alone is not finite."""
    last = 0
    with Run("guarded", dir=FOLDER / "runs") as run:
        guard = run.guard(every=2)
        for step in range(100_000):
            spoilt = run.rank == 1 and step == 7
            guard.check(torch.tensor(float("nan") if spoilt else 1.0), step=step)
            last = step
            meet()
            if run.safe_point(step).stop:
                break
    return {"last": last, "stopped": last < 99_999}


def refused_at_the_end() -> Seen:
    """What is asked beyond the last safe point takes effect nowhere, and says so."""
    with Run("refused", dir=FOLDER / "runs") as run:
        run.safe_point(1)
        meet()
        handle = run.control.request(Save())
    resolution = handle.wait(30)
    return {"applied": resolution.applied, "why": resolution.why}


def one_fails() -> Seen:
    """Rank 1 raises; the others hear of it at a safe point and end with its words."""
    error = ""
    try:
        with Run("one-fails", dir=FOLDER / "runs") as run:
            for step in range(1_000_000):
                run.safe_point(step)
                if run.rank == 1 and step == 10:
                    raise ValueError("no such thing")  # noqa: TRY301 - as a loop fails
                threading.Event().wait(0.001)
    except (ValueError, RanksError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"error": error}


def one_leaves() -> Seen:
    """Rank 1 leaves the loop early and the others wait for it in a collective."""
    with suppress(RuntimeError), Run("one-leaves", dir=FOLDER / "runs") as run:
        for step in range(20):
            if run.rank == 1 and step == 10:
                break
            meet()
            run.safe_point(step)
    if run.rank == 1:
        torch.distributed.destroy_process_group()
    return {}


SCENARIOS = (
    one_run,
    own_disks,
    again,
    subscribers,
    from_a_subscriber,
    deciders,
    guarded,
    refused_at_the_end,
    one_fails,
    one_leaves,
)

if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    seen: dict[str, Seen] = {}
    for scenario in SCENARIOS:
        seen[scenario.__name__] = scenario()
        (FOLDER / f"rank{os.environ['RANK']}.json").write_text(json.dumps(seen))
