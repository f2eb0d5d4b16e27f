"""The commands' view of a run's journal: state, the types asked for, one event as JSON."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import orjson

from bus import JournalReader, Row, RunInfo, RunNotFoundError, RunState
from bus import run_state as state_by_identity
from runtime.cli._fields import number

State: TypeAlias = RunState | Literal["unknown"]

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def identity(run_dir: Path) -> RunInfo | None:
    """What run.json says, None if it is missing or unreadable."""
    try:
        return RunInfo.load(run_dir)
    except RunNotFoundError:
        return None


def run_state(run_dir: Path) -> State:
    """Whether the run goes on or how it ended; by its journal alone if run.json is unreadable."""
    try:
        return state_by_identity(run_dir)
    except RunNotFoundError:
        attempts = JournalReader(run_dir).attempts
        return (attempts[-1].outcome if attempts else None) or "unknown"


def type_names(given: Sequence[str] | None) -> frozenset[str]:
    """The types asked for by their journal names, none for all of them.

    `MetricsLogged` and `metrics_logged` mean the same.
    """
    return frozenset(_CAMEL.sub("_", name).lower() for name in given or ())


def in_order(row: Row) -> tuple[int, float, int, int]:
    """The sort key under which the ranks of an attempt interleave by time."""
    return (row.attempt, number(row.data, "time") or 0.0, row.rank, row.seq)


def json_line(row: Row, *, superseded: bool = False) -> bytes:
    """One event as strict JSON with its place in the journal, without a newline.

    The event keeps to itself under `event`, so that no field of a user's own event can collide
    with `attempt`, `rank` or `seq`. NaN and infinities are the strings "NaN", "Infinity" and
    "-Infinity", as in the journal.
    """
    place: dict[str, object] = {"attempt": row.attempt, "rank": row.rank, "seq": row.seq}
    if superseded:
        place["superseded"] = row.superseded
    event = {key: value for key, value in row.data.items() if key not in {"v", "seq"}}
    return orjson.dumps({**place, "event": event})


def none_found(run_dir: Path, types: frozenset[str]) -> str:
    """What to tell somebody whose choice of types matched nothing."""
    there = sorted({str(row.data.get("type")) for row in JournalReader(run_dir).rows()})
    holds = ", ".join(there) or "no events yet"
    return f"no event of type {', '.join(sorted(types))}; this run holds: {holds}"
