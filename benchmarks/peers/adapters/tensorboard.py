"""TensorBoard's event file through `torch.utils.tensorboard`, one `add_scalar` per number."""

from pathlib import Path

from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]  # no py.typed
    event_file_loader,
)
from torch.utils.tensorboard import SummaryWriter

from benchmarks.peers._records import Session


def open_writer(folder: Path) -> Session:
    """Open a writer with the default queue (10 events) and flush interval (120 s)."""
    writer = SummaryWriter(folder)

    def log(scalars: dict[str, float], step: int, /) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    return Session(log=log, close=writer.close, kept=lambda: _calls(folder))


def _calls(folder: Path) -> int:
    (events,) = folder.glob("events.out.tfevents.*")
    records = sum(1 for _ in event_file_loader.RawEventFileLoader(str(events)).Load())
    return (records - 1) // 6  # the first record names the format
