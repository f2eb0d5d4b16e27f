"""W&B offline: a round trip to its service process, which appends to a `.wandb` file."""

from collections.abc import Iterator
from pathlib import Path

import wandb
from wandb.proto import wandb_internal_pb2

from benchmarks.peers._records import Session

_BLOCK = 32768
_FIRST_OR_WHOLE, _WHOLE_OR_LAST = (1, 2), (1, 4)


def open_offline(folder: Path) -> Session:
    """Open an offline run without system metrics, console, code or git capture."""
    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_stats=True,
    )
    run = wandb.init(mode="offline", project="peers", dir=str(folder), settings=settings)

    def log(scalars: dict[str, float], step: int, /) -> None:
        run.log(scalars, step=step)

    return Session(log=log, close=run.finish, kept=lambda: _rows(folder))


def _rows(folder: Path) -> int:
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made at import
    rows = 0
    for payload in _payloads(file.read_bytes()):
        record.ParseFromString(payload)
        rows += record.WhichOneof("record_type") == "history"
    return rows


def _payloads(data: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: 32 KiB blocks of crc, length, kind and fragment."""
    position = 7  # the file's own header
    whole = b""
    while position + 7 <= len(data):
        if _BLOCK - position % _BLOCK < 7:
            position += _BLOCK - position % _BLOCK
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        fragment = data[position + 7 : position + 7 + length]
        whole = fragment if kind in _FIRST_OR_WHOLE else whole + fragment
        if kind in _WHOLE_OR_LAST:
            yield whole
        position += 7 + length
