"""What the programs that try the bridges have in common."""

import json
import os
import time
from pathlib import Path
from typing import Any

from bus import JournalReader, RunInfo, register_sink


def register_sinks() -> None:
    """Ours by their names, where the distribution itself is not installed."""
    register_sink("mlflow", "sinks.mlflow:MlflowSink")
    register_sink("tensorboard", "sinks.tensorboard:TensorBoardSink")


def scalars(folder: Path) -> dict[str, list[list[float]]]:
    """Steps and values by tag, as TensorBoard's own reader finds them."""
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415 - slow
        EventAccumulator,
    )

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [[each.step, each.value] for each in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def shown(run: Any) -> dict[str, list[list[float]]]:
    """The scalars of a run, on the rank that delivers them."""
    return {} if run.rank else scalars(run.dir / "tensorboard")


def journal(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """What a rank's journal holds, shortly."""
    kept = ("step", "outcome", "error", "resumed_from_step", "path", "metrics", "reason")
    return [
        {
            "type": record.event.type,
            "attempt": record.attempt,
            **{name: getattr(record.event, name, None) for name in kept},
        }
        for record in JournalReader(folder).records()
        if record.rank == rank
    ]


def ended(folder: Path) -> list[str | None]:
    """How each attempt at a run ended, by its run.json."""
    return [each.outcome for each in RunInfo.load(folder).attempts]


def pause() -> None:
    """What a step of a larger model takes."""
    time.sleep(0.002)


def report(folder: Path, name: str, found: dict[str, Any]) -> None:
    """Leave what was found for the test, one file for each rank."""
    path = folder / f"{name}-{os.environ.get('RANK', '0')}.json"
    path.write_text(json.dumps(found, default=str))
