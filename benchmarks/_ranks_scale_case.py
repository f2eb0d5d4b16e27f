"""A process of `ranks_scale.py`: the store, or some of the simulated ranks.

    python benchmarks/_ranks_scale_case.py store
    python benchmarks/_ranks_scale_case.py ranks PORT NUMBER PROCESSES SIZE SECONDS RATE FLOOR

Ranks print what they measured as one line of JSON.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from torch.distributed import TCPStore

from bus import Event, Leases, StallDetected
from runtime._ranks import Store
from runtime._watchdog_answers import Answer
from runtime._watchdog_fleet import Fleet
from runtime._watchdog_lateness import Judge, Lateness, Seen
from runtime._watchdog_reports import Reports

BEAT: Final = 0.05
LOOK: Final = 0.5
CONNECTIONS: Final = 16
"""Of a process; its ranks share them, since this is about requests."""

STACKS: Final = "x" * 4_000


class Counted(Store):
    """A connection whose round trips and bytes are counted."""

    trips = 0
    size = 0

    def _count(self, trips: int, *parts: "bytes | str | None") -> None:
        self.trips += trips
        self.size += sum(len(part) for part in parts if part is not None)

    def get(self, key: str) -> bytes | None:
        found = super().get(key)
        self._count(1 + (found is not None), key, found)
        return found

    def get_all(self, keys: Sequence[str]) -> list[bytes] | None:
        found = super().get_all(keys)
        self._count(1 + (found is not None), *keys, *(found or ()))
        return found

    def set(self, key: str, value: bytes) -> None:
        super().set(key, value)
        self._count(1, key, value)

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        held = super().compare_set(key, expected, desired)
        self._count(1, key, expected, desired, held)
        return held


class Rank:
    """One simulated rank."""

    def __init__(self, connection: TCPStore, rank: int, size: int, floor: float) -> None:
        self.store = Counted(connection, "scale/")
        self.rank = rank
        self.passed = 0
        self.reached_at = 0.0
        self.stall: StallDetected | None = None
        self.leases = Leases(self.store, rank=rank)
        self.judge = Judge(floor)
        self.fleet = Fleet(
            self.store, rank, size, floor=floor, reports=Reports(self), answer=self.answer
        )
        self.next_look = time.monotonic() + LOOK * rank / size

    def publish(self, event: Event) -> None:
        """What its watchdog reports."""
        if isinstance(event, StallDetected):
            self.stall = event

    def answer(self, lateness: Lateness) -> Answer:
        """What it says of itself: rank 1 is busy, and the others wait for it."""
        return Answer(
            question=0,
            rank=self.rank,
            passed=self.passed,
            step=self.passed,
            phase="training",
            lenient=False,
            silent=lateness.silent,
            limit=lateness.limit,
            activity="code" if self.rank == 1 else "exchange",
            place=f"train.py:{self.rank == 1}",
            stacks=STACKS,
        )

    def turn(self, now: float, due: int) -> None:
        """What its threads do in a twentieth of a second, up to so many safe points."""
        while self.passed < due:
            self.passed += 1
            if not self.leases.passes() and self.leases.due():
                self.reached_at = time.time()
        self.leases.extend()
        if now >= self.next_look:
            self.next_look = now + LOOK
            lateness = self.judge.look(Seen(now, self.passed, 0, judged=True))
            self.fleet.turn(now, lateness)


class Job:
    """The ranks of this process, one after the other in one thread."""

    def __init__(self, port: int, number: int, processes: int, size: int, floor: float) -> None:
        self.number, self.processes = number, processes
        self.store = TCPStore("127.0.0.1", port, timeout=timedelta(seconds=600))
        mine = range(number, size, processes)
        made = [
            TCPStore("127.0.0.1", port, timeout=timedelta(seconds=120)) for _ in mine[:CONNECTIONS]
        ]
        self.ranks = [Rank(made[rank % len(made)], rank, size, floor) for rank in mine]
        self.gaps: list[float] = []
        self.started = 0.0
        self.steps = True

    def meet(self, name: str) -> None:
        """Wait for the other processes, who do nothing meanwhile either."""
        self.store.set(f"{name}-{self.number}", "here")
        self.store.wait([f"{name}-{number}" for number in range(self.processes)])

    def turn(self, rate: float) -> None:
        """One turn of all ranks, in a twentieth of a second or as long as it takes."""
        began = time.monotonic()
        due = int((time.time() - self.started) * rate) if self.steps else 0
        for each in self.ranks:
            each.turn(time.monotonic(), due)
        self.gaps.append(max(BEAT, time.monotonic() - began))
        time.sleep(max(0.0, BEAT - (time.monotonic() - began)))

    def counts(self) -> tuple[int, int, float]:
        """Round trips, bytes and CPU seconds so far."""
        trips = sum(each.store.trips for each in self.ranks)
        return trips, sum(each.store.size for each in self.ranks), time.process_time()


def simulate(job: Job, seconds: float, rate: float) -> dict[str, float]:
    """Go through the phases; what was measured."""
    job.meet("ready")
    job.started = time.time()
    run_for(job, 5, rate)  # the leases learn the pace
    job.store.set(f"calm-begins-{job.number}", "here")
    job.gaps.clear()
    before, began = job.counts(), time.monotonic()
    run_for(job, seconds, rate)
    took, after = time.monotonic() - began, job.counts()
    job.store.set(f"calm-ends-{job.number}", "here")
    gap = statistics.median(job.gaps)
    trips, size, cpu = (late - early for late, early in zip(after, before, strict=True))
    asked = time.time()
    if job.number == 1:
        job.ranks[-1].leases.propose(1, {"type": "stop"})
        job.store.set("asked", repr(asked))
    while not all(each.reached_at for each in job.ranks):
        job.turn(rate)
    reached = max(each.reached_at for each in job.ranks) - float(job.store.get("asked"))
    run_for(job, 2, rate)  # the other process comes there, too
    passed = time.monotonic()
    job.steps = False
    while not job.store.check(["reported"]):
        job.turn(rate)
        if job.number == 0 and job.ranks[0].stall is not None:
            job.store.set("reported", "here")
    stall = job.ranks[0].stall
    if stall is not None and (stall.ranks != (1,) or stall.left_out):
        raise RuntimeError(f"the wrong ranks are blamed: {stall.text}")
    return {
        "trips": trips,
        "bytes": size,
        "cpu": cpu,
        "took": took,
        "gap": gap,
        "reached": reached,
        "reported": time.monotonic() - passed if job.number == 0 else 0.0,
    }


def run_for(job: Job, seconds: float, rate: float) -> None:
    """Turn after turn for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job.turn(rate)


def hold_store() -> None:
    """Be the store until standard input ends; its port is the first line of the output."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    print(store.port, flush=True)
    sys.stdin.read()


def main() -> None:
    """Be what the arguments say."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1] == "store":
        hold_store()
        return
    port, number, processes, size = map(int, sys.argv[2:6])
    seconds, rate, floor = map(float, sys.argv[6:9])
    job = Job(port, number, processes, size, floor)
    found = simulate(job, seconds, rate)
    job.meet("over")  # the store's clients end together
    print(json.dumps(found))


if __name__ == "__main__":
    main()
