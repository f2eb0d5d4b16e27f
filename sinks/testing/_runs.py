"""Writes runs to disk as a training process would have left them."""

from collections.abc import Sequence
from pathlib import Path

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Bus,
    Event,
    Outcome,
    RunEnded,
    RunInfo,
    RunStarted,
)


def write_run(
    run_dir: Path,
    events: Sequence[Event],
    *,
    attempt: int = 1,
    outcome: Outcome = "finished",
    resumed_from_step: int | None = None,
) -> Path:
    """Journal one attempt at a run, from `RunStarted` to `RunEnded`.

    Args:
        run_dir: The run's folder; the first attempt makes it.
        events: What happened in between.
        attempt: Its number, from 1 on.
        outcome: How it ended.
        resumed_from_step: The step of the checkpoint that it went on from.

    Raises:
        OSError: The disk refused.
    """
    bus = begin_run(run_dir, attempt=attempt, resumed_from_step=resumed_from_step)
    for event in events:
        bus.publish(event)
    bus.close(10.0, last=lambda: RunEnded(outcome=outcome))
    end_run(run_dir, outcome)
    return run_dir


def begin_run(run_dir: Path, *, attempt: int = 1, resumed_from_step: int | None = None) -> Bus:
    """Begin an attempt at a run, as a training process does; the bus has `RunStarted`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    info = RunInfo.new("kit", "tests") if attempt == 1 else RunInfo.load(run_dir)
    info.attempts.append(AttemptInfo.here(attempt, resumed_from_step))
    info.save(run_dir)
    bus = Bus(run_dir / JOURNAL_FOLDER, attempt=attempt, rank=0)
    bus.publish(
        RunStarted(
            name=info.name,
            run_id=info.id,
            project=info.project,
            attempt=attempt,
            resumed_from_step=resumed_from_step,
        )
    )
    return bus


def end_run(run_dir: Path, outcome: Outcome) -> None:
    """Write down how the last attempt ended."""
    info = RunInfo.load(run_dir)
    this = info.attempts[-1]
    this.outcome = outcome
    this.ended = this.started
    info.save(run_dir)
