"""Facts about the machine that a latency depends on; nothing that identifies it."""

import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """Where and when the numbers were taken.

    Attributes:
        filesystem: Of the folder that the peers wrote to.
        disturbed: Blocks before or after which others used more than a tenth of the machine.
        blocks: All blocks.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    date: str
    cores: int
    processor: str
    memory_gib: float
    system: str
    filesystem: str
    python: str
    torch: str
    disturbed: int
    blocks: int


def describe(folder: Path, *, disturbed: int, blocks: int) -> Machine:
    """Describe this machine, and the file system that holds `folder`."""
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        cores=os.cpu_count() or 0,
        processor=_field(Path("/proc/cpuinfo"), "model name"),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        filesystem=_filesystem(folder.resolve()),
        python=platform.python_version(),
        torch=metadata.version("torch"),
        disturbed=disturbed,
        blocks=blocks,
    )


def busy_share(seconds: float = 1.0) -> float:
    """Watch all cores for so long; returns the share that was not idle, 0 to 1."""
    total, idle = _ticks()
    time.sleep(seconds)
    later, idle_later = _ticks()
    return 1 - (idle_later - idle) / max(1, later - total)


def _ticks() -> tuple[int, int]:
    ticks = [int(value) for value in next(_lines(Path("/proc/stat")), "cpu 0 0 0 0 0").split()[1:]]
    return sum(ticks), ticks[3] + ticks[4]


def _field(file: Path, name: str) -> str:
    values = (line.partition(":")[2].strip() for line in _lines(file) if line.startswith(name))
    return next(values, "unknown")


def _filesystem(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in _lines(Path("/proc/mounts"))]
    holders = [(len(where), kind) for where, kind in mounts if folder.is_relative_to(where)]
    return max(holders, default=(0, "unknown"))[1]


def _lines(file: Path) -> Iterator[str]:
    return iter(file.read_text(encoding="utf-8").splitlines() if file.exists() else ())
