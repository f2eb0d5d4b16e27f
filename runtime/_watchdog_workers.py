"""Looks after the workers of this process's data loaders, without touching them.

Linux tells in /proc which children a process has; torch gives its workers a name of their own
there. An exit status is read in a way that leaves the child to be waited for by torch, which would
not notice its death otherwise. Elsewhere there are no workers to be seen.
"""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")
_NAME: Final = "pt_data_worker"
_TORCH: Final = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(is killed by signal: [\w ]+|exited unexpectedly)"
)


@dataclass(frozen=True, slots=True)
class Workers:
    """How many there are, and those that do not work.

    Attributes:
        count: How many, the dead among them until torch has waited for them.
        dead: Process and cause of death of each that died; one that ended in order is not among
            them.
        stopped: Processes that a signal or a debugger has stopped.
    """

    count: int = 0
    dead: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


def look_after() -> Workers:
    """Look at all workers there are; takes some 10 microseconds for each child."""
    count = 0
    dead: list[str] = []
    stopped: list[str] = []
    for pid in _children():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it is gone
            continue
        name, _, rest = fields.partition("(")[2].rpartition(")")
        state = rest.split()[0]
        if name != _NAME:
            continue
        count += 1
        if state in {"T", "t"}:
            stopped.append(f"process {pid}")
        elif state == "Z" and (how := _died(pid)):
            dead.append(f"process {pid}, {how}")
    return Workers(count, tuple(dead), tuple(stopped))


def named_in(error: str) -> str | None:
    """What torch says of a worker that died, if that is what an error is about."""
    found = _TORCH.search(error)
    return f"process {found[1]} {found[2].strip()}" if found else None


def _children() -> list[int]:
    found: list[int] = []
    try:
        for task in _TASKS.iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found


def _died(pid: int) -> str | None:
    """How a child died; None if it ended in order, or somebody has waited for it already."""
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if end is None or not end.si_status:
        return None
    if end.si_code == os.CLD_EXITED:
        return f"exit code {end.si_status}"
    return f"killed by {signal.Signals(end.si_status).name}"
