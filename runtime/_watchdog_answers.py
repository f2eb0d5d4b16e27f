"""What ranks say of themselves when one of them is late, and what follows: a pure decision."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict

from bus import RankStacks, StallKind
from runtime._watchdog_stacks import WAITING, Activity

_STACKS: Final = 256_000
"""Characters of all ranks' stacks in one event; those of ranks that are blamed come first."""

_LATE: Final = 0.5
"""Share of the silence of whoever asked from which on a rank stands still as well."""


class Answer(BaseModel):
    """How one rank stands.

    Attributes:
        question: The number of the question that it answers.
        rank: Which rank.
        passed: Safe points it has passed.
        step: The step of the last one.
        phase: What its loop is at.
        lenient: Whether that may take any time.
        silent: Seconds since the last one.
        limit: Seconds within which a stall is to be reported; infinite while nothing is known.
        activity: What its training thread is at.
        place: Where that is in the user's code.
        stacks: Python's stacks of its threads.
        dead: Workers of its data loaders that died: process and how.
        stopped: Such workers that are stopped.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, ser_json_inf_nan="strings", extra="ignore"
    )

    question: int
    rank: int
    passed: int
    step: int
    phase: str
    lenient: bool
    silent: float
    limit: float
    activity: Activity
    place: str
    stacks: str
    dead: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds a run up.

    Attributes:
        kind: What it is.
        ranks: Which ranks hold it up.
        text: The same in words.
    """

    kind: StallKind
    ranks: tuple[int, ...]
    text: str


def find(answers: Sequence[Answer], asker: int, absent: Mapping[int, bool]) -> Finding | None:
    """Which ranks hold up the others, and with what; None if what they do may take any time.

    Args:
        answers: Of the ranks that answered, the asker among them.
        asker: The rank that is late.
        absent: Of the others, whether their run has ended.
    """
    mine = next(each for each in answers if each.rank == asker)
    late = [each for each in answers if each.silent >= _LATE * mine.silent]
    waiting = [each for each in late if each.activity in WAITING]
    dead = [each for each in answers if each.dead]
    if dead:
        return _blamed("worker", dead, "; ".join(_of_worker(each) for each in dead))
    if absent:
        return _of_absent(absent, waiting or [mine])
    if any(each.lenient for each in answers):
        return None
    busy = [each for each in late if each.activity not in WAITING or len(answers) == 1]
    if busy:
        return _of_busy(busy, waiting)
    going_on = [each for each in answers if each not in late]
    return _of_collective(waiting, going_on)


def gather_stacks(
    answers: Iterable[Answer], blamed: Iterable[int]
) -> tuple[tuple[RankStacks, ...], int]:
    """The stacks of all ranks, those at the same place together, and how many ranks' do not fit."""
    first = set(blamed)
    groups: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
    for each in sorted(answers, key=lambda each: (each.rank not in first, each.rank)):
        groups[each.phase, each.place].append(each)
    room, left_out = _STACKS, 0
    kept: list[RankStacks] = []
    for (phase, place), group in groups.items():
        room -= len(group[0].stacks)
        if room < 0:
            left_out += len(group)
            continue
        ranks = tuple(each.rank for each in group)
        kept.append(RankStacks(ranks=ranks, phase=phase, place=place, stacks=group[0].stacks))
    return tuple(kept), left_out


def _blamed(kind: StallKind, ranks: Iterable[Answer], text: str) -> Finding:
    return Finding(kind, tuple(sorted(each.rank for each in ranks)), text)


def _of_worker(answer: Answer) -> str:
    return f"rank {answer.rank}: a DataLoader's worker died ({', '.join(answer.dead)})"


def _of_absent(absent: Mapping[int, bool], waiting: list[Answer]) -> Finding:
    over = sorted(rank for rank, ended in absent.items() if ended)
    held_up = f"waiting at {waiting[0].place}: {listed(waiting)}"
    if over:
        return Finding("ended", tuple(over), f"the run is over on {named(over)}; {held_up}")
    silent = tuple(sorted(absent))
    text = (
        f"no answer from {named(silent)}: the process is gone or stopped, cannot reach the store, "
        f"or C code holds its interpreter's lock; {held_up}"
    )
    return Finding("silent", silent, text)


def _of_busy(busy: list[Answer], waiting: list[Answer]) -> Finding:
    text = "; ".join(
        f"rank {each.rank} is at {each.place or 'no Python code'}"
        + (f", its DataLoader's worker {', '.join(each.stopped)} stopped" if each.stopped else "")
        for each in busy[:8]
    )
    if len(busy) > 8:
        text += f"; and {len(busy) - 8} more"
    if waiting:
        text += f"; waiting at {waiting[0].place}: {listed(waiting)}"
    ahead = {each.passed for each in waiting}
    if waiting and min(each.passed for each in busy) > max(ahead):
        text += ", one safe point or more behind: those ahead have left out a collective"
        return _blamed("collective", busy, text)
    fetching = all(each.activity == "data" for each in busy)
    return _blamed("data" if fetching else "rank", busy, text)


def _of_collective(waiting: list[Answer], going_on: list[Answer]) -> Finding:
    """All that stand still wait: for those that go on, are ahead, or wait elsewhere."""
    here = f"waiting at {waiting[0].place}: {listed(waiting)}"
    if going_on:
        text = f"{here}; going on without that collective: {listed(going_on)}"
        return _blamed("collective", going_on, text)
    furthest = max(each.passed for each in waiting)
    ahead = [each for each in waiting if each.passed == furthest]
    if len(ahead) < len(waiting):
        behind = [each for each in waiting if each.passed != furthest]
        text = (
            f"ahead, having left out a collective: {listed(ahead)}, now at {ahead[0].place}; "
            f"still waiting in it at {behind[0].place}: {listed(behind)}"
        )
        return _blamed("collective", ahead, text)
    places: defaultdict[str, list[Answer]] = defaultdict(list)
    for each in waiting:
        places[each.place].append(each)
    fewest = min(places.values(), key=len)
    if len(places) > 1 and 2 * len(fewest) < len(waiting):
        others = [each for each in waiting if each not in fewest]
        text = (
            f"in another collective than the others, at {fewest[0].place}: {listed(fewest)}; "
            f"at {others[0].place}: {listed(others)}"
        )
        return _blamed("collective", fewest, text)
    where = "; ".join(f"at {place}: {listed(group)}" for place, group in sorted(places.items())[:4])
    return _blamed("collective", waiting, f"all ranks wait for others, or for a device: {where}")


def listed(answers: Iterable[Answer]) -> str:
    """The ranks of answers in words."""
    return named([each.rank for each in answers])


def named(ranks: Sequence[int]) -> str:
    """Ranks in words; of many, the first."""
    shown = ", ".join(map(str, sorted(ranks)[:16]))
    more = f" and {len(ranks) - 16} more" if len(ranks) > 16 else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {shown}{more}"
