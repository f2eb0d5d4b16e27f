"""What the sinks that write files do on disks that fail; a script, for a mount namespace.

    unshare --mount python disk_child.py SCENARIO SINK RUN_DIR MOUNT_POINT FOLDER

The sink's files are on a small disk of their own; afterwards they are copied to the folder. Prints
one JSON object for the test that started it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bus import Backoff, Pace, Sink, SinkAccount, sync_run
from sinks.csv import CsvSink
from sinks.jsonl import JsonlSink
from sinks.tensorboard import TensorBoardSink

PACE: Final = Pace(backoff=Backoff(first=0.001))


def mount(folder: Path, options: str) -> None:
    """Give the folder a file system of its own, in memory, or change it."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 - fixed but for the folder


def make(name: str, disk: Path) -> Sink:
    """A sink on the disk."""
    if name == "csv":
        return CsvSink(path=disk / "metrics.csv")
    if name == "jsonl":
        return JsonlSink(path=disk / "events.jsonl")
    return TensorBoardSink(log_dir=disk / "tensorboard")


def sync(name: str, run_dir: Path, disk: Path) -> SinkAccount:
    """Deliver as far as it goes."""
    (account,) = sync_run(run_dir, [make(name, disk)], pace=PACE)
    return account


def full(name: str, run_dir: Path, disk: Path) -> SinkAccount:
    """There is space for a part of the run only, and later for all of it."""
    mount(disk, "size=2m")
    space = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(space.f_bavail * space.f_frsize - (130 << 10)))
    first = sync(name, run_dir, disk)
    shutil.copytree(disk, sys.argv[5] + "-full", ignore=shutil.ignore_patterns("ballast"))
    (disk / "ballast").unlink()
    return first


def read_only(name: str, run_dir: Path, disk: Path) -> SinkAccount:
    """The disk can be written only later."""
    mount(disk, "size=4m")
    mount(disk, "remount,ro")
    first = sync(name, run_dir, disk)
    mount(disk, "remount,rw")
    return first


def main() -> None:
    """Deliver to a disk that fails, and again when it works."""
    scenario, name, run_dir, disk, out = sys.argv[1:]
    first = {"full": full, "read_only": read_only}[scenario](name, Path(run_dir), Path(disk))
    second = sync(name, Path(run_dir), Path(disk))
    shutil.copytree(disk, out)
    found = {
        "status": first.status,
        "reason": first.reason,
        "delivered": first.delivered,
        "complete": second.complete,
        "dead": second.dead,
    }
    print(json.dumps(found))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
