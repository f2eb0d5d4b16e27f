"""The clock, the processor cores, and how Python starts worker processes here."""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from runtime.cli.doctor._disk import nearest_folder
from runtime.cli.doctor._finding import Finding

RELEASED: Final = 1_767_225_600.0
"""2026-01-01 in Unix seconds: no clock that is right says less."""
_SKEW: Final = 2.0


def check_machine(runs: Path) -> list[Finding]:
    """Clock, cores and worker processes."""
    cores = len(os.sched_getaffinity(0))
    method = multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_context().get_start_method()
    return [
        check_clock(time.time(), _clock_of_files(nearest_folder(runs))),
        check_cores(cores),
        check_workers(method),
    ]


def check_clock(now: float, files: float | None) -> Finding:
    """Whether the time of day is plausible and agrees with the file system's.

    Args:
        now: Unix seconds by this machine.
        files: Unix seconds by the clock that stamps files where runs go, if it could be read.
    """
    said = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(max(0.0, now)))
    if now < RELEASED:
        advice = "set the clock (timedatectl, or ask for NTP): events would sort before older runs"
        return Finding(check="clock", level="problem", found=f"it says {said}", advice=advice)
    if files is not None and abs(now - files) > _SKEW:
        return Finding(
            check="clock",
            level="warn",
            found=f"it says {said}; new files are stamped {files - now:+.1f} s from that",
            advice="synchronise this machine and the file server: `last write` in "
            "`hotloop status` is off by as much",
        )
    return Finding(check="clock", level="ok", found=said)


def check_cores(count: int) -> Finding:
    """Whether the bus's two threads have a core beside the training thread."""
    found = f"{count} usable by this process"
    if count > 1:
        return Finding(check="cores", level="ok", found=found)
    advice = "our threads share the only core with training: ask the scheduler for one more"
    return Finding(check="cores", level="warn", found=found, advice=advice)


def check_workers(method: str) -> Finding:
    """What the start method of worker processes means for a run that is open."""
    check = "worker processes"
    if method == "fork":
        found = (
            "start by fork: DataLoader workers inherit an open run, never write to it or close it"
        )
        advice = "log from the training process only; run.log in a worker warns once and drops"
        return Finding(check=check, level="ok", found=found, advice=advice)
    return Finding(
        check=check,
        level="ok",
        found=f"start by {method}: they import your script again",
        advice='open the run under `if __name__ == "__main__":`',
    )


def _clock_of_files(folder: Path) -> float | None:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".hotloop-doctor-") as file:
            file.write(b"\n")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
