"""Randomised trials of ranks that train together: what one asks for, all do at the same step.

`run_trials` starts the ranks once and has them make all trials; trial_rank.py is their program.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.runtime.ranks import trial_rank
from tests.runtime.ranks.launching import launch
from tests.runtime.ranks.trial_plan import SIGNALS
from tests.runtime.ranks.trial_rank import Row

ENDS = ("stop", *SIGNALS)


@dataclass
class Trials:
    """What came of many trials.

    Attributes:
        count: How many there were.
        asked: Requests and signals in all of them together, by the phase that they came in.
        starved: Times that a rank's writer thread was starved, by how.
        stopped: Trials that ended early because of a request or a signal.
        slowest: The longest time from asking for a stop to the last rank's last step, in seconds.
        held_up: The longest step of that trial, which may be a compilation, in seconds.
        late: Stops that took longer than a second and than three of the trial's longest steps.
        failures: What ranks did not do alike, a line each.
    """

    count: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    starved: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    slowest: float = 0.0
    held_up: float = 0.0
    late: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        places = [f"{count} {place}" for place, count in sorted(self.asked.items())]
        ways = [f"{count} {how}" for how, count in sorted(self.starved.items())]
        return (
            f"{self.count} trials, {self.asked.total()} requests and signals "
            f"({', '.join(places)}), {self.starved.total()} ranks starved ({', '.join(ways)}), "
            f"{self.stopped} stops, slowest {self.slowest:.2f} s in a trial "
            f"with a step of {self.held_up:.2f} s, "
            f"{self.late} later than max(1 s, 3 steps)"
        )


def run_trials(folder: Path, *, size: int, count: int, seed: int, timeout: float) -> Trials:
    """Start `size` ranks, have them make `count` trials, and compare what each of them did."""
    ended = launch(trial_rank.__file__, folder, count, seed, size=size, timeout=timeout)
    trials = Trials(failures=[f"rank {e.rank}: {e}" for e in ended if e.code != 0])
    written: list[list[Row]] = [
        [json.loads(line) for line in (folder / f"rank{rank}.jsonl").read_text().splitlines()]
        for rank in range(size)
    ]
    for ranks in zip(*written, strict=False):
        compare(ranks, trials)
    return trials


def compare(ranks: tuple[Row, ...], trials: Trials) -> None:
    """Compare what the ranks wrote down about one trial."""
    number = trials.count
    trials.count += 1
    first = ranks[0]["seen"]
    if any(rank["seen"] != first for rank in ranks):
        found = [rank["seen"] for rank in ranks]
        trials.failures.append(f"trial {number}: the ranks did not act alike: {found}")
    trials.failures += [
        f"trial {number}, rank {rank}: {done['open']} requests were never resolved"
        for rank, done in enumerate(ranks)
        if done["open"]
    ]
    stops: list[float] = []
    for kind, when, place in (each for rank in ranks for each in rank["asked"]):
        if kind.startswith("starved: "):
            trials.starved[kind.removeprefix("starved: ")] += 1
            continue
        trials.asked[place] += 1
        stops += [when] if kind in ENDS else []
    if any(isinstance(each, dict) and each["type"] in ("stop", "preempt") for _, each in first):
        trials.stopped += 1
        took = max(rank["ended"] for rank in ranks) - min(stops)
        longest = max(rank["longest"] for rank in ranks)
        trials.slowest, trials.held_up = max((trials.slowest, trials.held_up), (took, longest))
        trials.late += took > max(1.0, 3 * longest)
