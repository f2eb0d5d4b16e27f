"""One rank of the randomised trials: what it asks for, what it sees, and when.

python trial_rank.py FOLDER COUNT SEED     (with what a launcher sets; trials.py starts it)
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypedDict

import torch
import torch.distributed as dist

from bus import Control, EventStream, Handle, MetricsLogged, Request, Stop
from runtime import Run
from tests.runtime.ranks.trial_plan import (
    REQUESTS,
    SIGNALS,
    Plan,
    Starved,
    compute,
    hold_up,
    stop_for,
)

EVALUATED: Final = 5
"""Batches of an evaluation at most."""

ONCE: Final = 2.0
"""Seconds after which a second signal of a kind is not sent: then it would insist."""


class Row(TypedDict):
    """What a rank writes down about a trial.

    Attributes:
        seen: What took effect, and where.
        asked: What it has asked for, or how it was starved: what, when, in which phase.
        open: Requests of which it never heard what became of them.
        ended: When it passed its last safe point.
        longest: The most seconds between two safe points.
    """

    seen: list[tuple[int | str, dict[str, object] | int]]
    asked: list[tuple[str, float, str]]
    open: int
    ended: float
    longest: float


class Rank:
    """One rank in one trial."""

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan, self.run = plan, run
        self.row: Row = {
            "seen": [],
            "asked": [],
            "open": 0,
            "ended": time.time(),
            "longest": 0.0,
        }
        self._handles: list[Handle] = []
        self._place = "training"
        self._entered: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []

    def train(self) -> None:
        """Step after step, an all-reduce in each, other phases between them."""
        plan, run = self.plan, self.run
        run.catch_signals()
        run.on(Starved, ranks="all")(self._hold_up)
        self._limit_time()
        steps = agreed(plan.batches, plan.last)
        for step in range(1, steps + 1):
            self._step(step)
            decision = run.safe_point(step)
            self._passed()
            self.row["seen"] += [(step, e.model_dump(mode="json")) for e in decision.requests]
            if decision.stop:
                break
            if decision.save or (plan.save_every and step % plan.save_every == 0):
                self._save()
            if decision.evaluate or (plan.evaluate_every and step % plan.evaluate_every == 0):
                self._evaluate(step)
        for thread in self._threads:
            thread.join()

    async def _hold_up(self, event: Starved) -> None:
        hold_up(event)

    def _step(self, step: int) -> None:
        plan = self.plan
        with self._inside("training"):
            if step - 1 == plan.compile_at:
                self._compile()
            if step - 1 == plan.starved_at:
                self._starve()
            dist.all_reduce(torch.ones(1))
            if step <= plan.batches:
                time.sleep(plan.pace * plan.random.random() * (3 if plan.slow else 1))
            self.run.log({"n": step}, step=step)

    def _evaluate(self, step: int) -> None:
        """Another phase, with all-reduces of its own, and different amounts of data again."""
        self.run.control.begin_phase()
        with self._inside("evaluating"):
            for batch in range(agreed(self.plan.random.randint(1, EVALUATED), dist.ReduceOp.MAX)):
                dist.all_reduce(torch.ones(1))
                given_up = self.run.control.tick()
                self._passed()
                if given_up:  # by all or by none, or the next all-reduce would hang
                    self.row["seen"].append((f"{step}, evaluation", batch))
                    break
        self.run.control.begin_phase()

    def _save(self) -> None:
        """One rank writes, and the others wait for it in a collective; no safe point passes."""
        with self._inside("saving"):
            if not self.run.rank:
                (self.run.dir / "checkpoint").write_bytes(b"0" * 1_000_000)
                time.sleep(self.plan.random.uniform(0.01, 0.15))
            dist.barrier()

    def _compile(self) -> None:
        """Every rank for itself, some longer than others; no safe point passes."""
        with self._inside("compiling"):
            if self.plan.compiles:
                torch.compiler.reset()
                ones = torch.ones(4, requires_grad=True)
                torch.compile(lambda x: (x.sin() * x).sum(), backend="aot_eager")(ones).backward()
            else:
                compute(self.plan.random.uniform(0.02, 0.3))

    def _starve(self) -> None:
        event = self.plan.starved
        self.row["asked"].append((f"starved: {event.how}", time.time(), self._place))
        if event.how == "stopped":
            self._start(lambda: stop_for(event.seconds))
        else:
            self.run.publish(event)

    @contextlib.contextmanager
    def _inside(self, place: str) -> Iterator[None]:
        """A phase, in which is asked what was planned for it."""
        outside, self._place = self._place, place
        entry = self._entered[place]
        self._entered[place] += 1
        for where, number, kind in self.plan.asks:
            if where == place and number == entry:
                delay = self.plan.random.random() * (0.1 if place == "training" else 0.03)
                self._start(lambda kind=kind, delay=delay: self._ask(kind, delay))
        yield
        self._place = outside

    def _ask(self, kind: int | str, delay: float) -> None:
        time.sleep(delay)
        if not isinstance(kind, str):
            self._request(self.run.control, REQUESTS[kind])
        elif all(
            kind != before or time.time() - then < ONCE for before, then, _ in self.row["asked"]
        ):
            self.row["asked"].append((kind, time.time(), self._place))
            os.kill(os.getpid(), SIGNALS[kind])

    def _request(self, control: Control, request: Request) -> None:
        self.row["asked"].append((request.type, time.time(), self._place))
        self._handles.append(control.request(request))

    def _limit_time(self) -> None:
        """Stop by this rank's own clock, as users write it."""
        began, limit, over = time.monotonic(), self.plan.limit, Stop(reason="time limit")
        if limit is None:
            return
        if self.plan.limit_by == "timer":
            self._start(lambda: (time.sleep(limit), self._request(self.run.control, over)))
            return

        @self.run.subscribe(MetricsLogged, ranks="all")
        async def watch_clock(events: EventStream[MetricsLogged], control: Control) -> None:
            async for _ in events:
                if time.monotonic() - began > limit:
                    self._request(control, over)
                    return

    def _passed(self) -> None:
        now = time.time()
        self.row["longest"] = max(self.row["longest"], now - self.row["ended"])
        self.row["ended"] = now

    def _start(self, body: Callable[[], object]) -> None:
        thread = threading.Thread(target=body)
        thread.start()
        self._threads.append(thread)

    def finish(self) -> Row:
        """Look what became of the requests, once the run has ended."""
        self.row["open"] = sum(not handle.done for handle in self._handles)
        return self.row


def agreed(mine: int, how: dist.ReduceOp.RedOpType) -> int:
    """The largest or smallest number that any rank has."""
    number = torch.tensor(mine)
    dist.all_reduce(number, how)
    return int(number)


def main(folder: Path, count: int, seed: int) -> None:
    """Make all trials as one rank."""
    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    with (folder / f"rank{number}.jsonl").open("w") as file:
        for trial in range(count):
            plan = Plan(trial, number, size, seed)
            with Run(f"trial-{trial}", dir=folder / "runs", close_timeout=20.0) as run:
                rank = Rank(plan, run)
                rank.train()
            file.write(json.dumps(rank.finish()) + "\n")
            file.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
