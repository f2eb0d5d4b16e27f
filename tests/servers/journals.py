"""Writes runs' journals for sinks to deliver."""

from collections.abc import Sequence
from pathlib import Path

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Backoff,
    Bus,
    Event,
    JsonObject,
    Outcome,
    Pace,
    RunEnded,
    RunInfo,
    RunStarted,
)

QUICK = Pace(look=0.05, rearm=0.2, backoff=Backoff(first=0.05, ceiling=0.5))
"""Waits for servers on this machine."""


def write_attempt(
    run_dir: Path,
    events: Sequence[Event],
    *,
    attempt: int = 1,
    outcome: Outcome | None = "finished",
    error: str | None = None,
    from_step: int | None = None,
    config: JsonObject | None = None,
    started: float | None = None,
) -> Path:
    """Write one attempt at a run; an outcome of None leaves it as a SIGKILL does."""
    run_dir.mkdir(parents=True, exist_ok=True)
    new = not (run_dir / "run.json").exists()
    info = RunInfo.new(run_dir.name, "tests") if new else RunInfo.load(run_dir)
    if info.attempt(attempt) is None:
        info.attempts.append(AttemptInfo.here(attempt, from_step))
    for each in info.attempts:
        each.pid = 2**22 + 1  # a process of the past: nobody has this number
    bus = Bus(run_dir / JOURNAL_FOLDER, attempt=attempt)
    first = RunStarted(
        name=info.name,
        run_id=info.id,
        project="tests",
        attempt=attempt,
        resumed_from_step=from_step,
        config=config or {},
        facts={"git_commit": "0" * 40, "command": ["train.py"], "host": "here"},
    )
    bus.publish(first if started is None else first.model_copy(update={"time": started}))
    for event in events:
        bus.publish(event)
    last = None if outcome is None else RunEnded(outcome=outcome, error=error)
    account = bus.close(10, last=None if last is None else lambda: last)
    assert account.written
    ours = info.attempt(attempt)
    assert ours is not None
    if outcome is not None:
        ours.outcome, ours.ended = outcome, 0.0
    info.save(run_dir)
    return run_dir
