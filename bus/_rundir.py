"""A run's folder and identity: `runs/<name>/run.json`, its attempts, and whether it still lives.

run.json is replaced atomically, so that a reader sees one whole version of it.
"""

import contextlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus._errors import RunNotFoundError
from bus._events import Outcome
from bus._lines import list_segments

RUN_FILE: Final = "run.json"
JOURNAL_FOLDER: Final = "journal"
"""The folder of a run's journal, below the run's."""

RunState: TypeAlias = Literal["running", "finished", "failed", "stopped", "preempted", "crashed"]
"""How a run stands: under way, or how it ended."""


def boot_id() -> str:
    """What tells this boot of this machine from every other, where the system says so."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def process_started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it is gone or not ours to see."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else int(fields[19])


class AttemptInfo(BaseModel):
    """One process's turn at the run.

    Attributes:
        pid: Its process, together with `host`, `boot` and `process_started` to tell it from later
            ones of the same number.
        ended: When it closed; None while it runs or if it was killed.
        outcome: How it closed.
        resumed_from_step: The checkpoint's step it went on from.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    number: int
    pid: int
    host: str
    boot: str = ""
    process_started: int | None = None
    started: float
    ended: float | None = None
    outcome: Outcome | None = None
    error: str | None = None
    reason: str | None = None
    resumed_from_step: int | None = None

    @classmethod
    def here(cls, number: int, resumed_from_step: int | None) -> "AttemptInfo":
        """The attempt that this process begins now."""
        return cls(
            number=number,
            pid=os.getpid(),
            host=socket.gethostname(),
            boot=boot_id(),
            process_started=process_started(os.getpid()),
            started=time.time(),
            resumed_from_step=resumed_from_step,
        )

    def lives(self) -> bool | None:
        """Whether its process still runs; None when that cannot be told from this machine."""
        if self.host != socket.gethostname():
            return None
        if self.boot and self.boot != boot_id():
            return False
        started = process_started(self.pid)
        if started is None:
            return _exists(self.pid) if self.process_started is None else False
        return self.process_started in (None, started)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class RunInfo(BaseModel):
    """The identity of a run, as run.json holds it.

    Attributes:
        id: Its identity across attempts, machines and renamed folders, by which destinations find
            their side of the run again.
        created: When the first attempt began, in Unix seconds.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    v: int = 1
    id: str
    name: str
    project: str | None = None
    created: float
    attempts: list[AttemptInfo] = Field(default_factory=list[AttemptInfo])

    @classmethod
    def new(cls, name: str, project: str | None) -> "RunInfo":
        """A run that did not exist before."""
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        return cls(
            id=f"{stamp}-{uuid.uuid4().hex[:12]}", name=name, project=project, created=time.time()
        )

    @classmethod
    def load(cls, run_dir: Path) -> "RunInfo":
        """Read the identity of a run.

        Raises:
            RunNotFoundError: The folder does not exist, or holds no readable run.json.
        """
        file = run_dir / RUN_FILE
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            why = f"there is no {RUN_FILE} in it" if run_dir.is_dir() else "there is no such folder"
            raise RunNotFoundError(run_dir, why) from None
        except (OSError, ValidationError) as error:
            raise RunNotFoundError(run_dir, f"{RUN_FILE} cannot be read: {error}") from error

    def save(self, run_dir: Path) -> None:
        """Replace run.json atomically and durably.

        Raises:
            OSError: The disk refused.
        """
        temporary = run_dir / f".{RUN_FILE}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                file.write(self.model_dump_json(indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(run_dir / RUN_FILE)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def attempt(self, number: int) -> AttemptInfo | None:
        """The attempt of that number, if run.json knows it."""
        return next((each for each in self.attempts if each.number == number), None)


def run_state(run_dir: Path) -> RunState:
    """Tell how a run stands: how its last attempt ended, or whether it still runs.

    An attempt without an outcome whose process is gone has crashed. On another machine, where
    that cannot be seen, it counts as running.

    Raises:
        RunNotFoundError: The folder holds no run.
    """
    info = RunInfo.load(run_dir)
    if not info.attempts:
        return "crashed"
    last = info.attempts[-1]
    if last.outcome is not None:
        return last.outcome
    return "crashed" if last.lives() is False else "running"


def folder_name(name: str) -> str:
    """The folder a run's name becomes: path separators and other surprises are replaced.

    Raises:
        ValueError: Nothing usable is left.
    """
    cleaned = "".join(c if c.isalnum() or c in "-_.+=@" else "-" for c in name.strip())[:80]
    if not cleaned.strip(".-"):
        raise ValueError(f"{name!r} cannot be a run's name: use letters, digits, '-' or '_'")
    return cleaned.lstrip(".")


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def find_run(name: str, dir: str | os.PathLike[str] = "runs") -> Path | None:  # noqa: A002 - as in Run
    """The newest run of a name: the highest of `gpt`, `gpt-2`, `gpt-3` that exists, or None."""
    pattern = re.compile(re.escape(folder_name(name)) + r"(?:-(\d+))?")
    found: dict[int, Path] = {}
    with contextlib.suppress(OSError):
        for path in Path(dir).iterdir():
            match = pattern.fullmatch(path.name)
            if match is not None and (path / RUN_FILE).exists():
                found[int(match[1] or 1)] = path
    return found[max(found)] if found else None


def create_run_dir(name: str, parent: Path) -> Path:
    """Make the folder of a new run, the first free one of `gpt`, `gpt-2`, `gpt-3`...

    Raises:
        OSError: The disk refused.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for candidate in _numbered(folder_name(name)):
        path = parent / candidate
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("unreachable")  # pragma: no cover - the numbers never end


def next_attempt(run_dir: Path, info: RunInfo) -> int:
    """The number of the attempt that would come next, by run.json and by the files there are."""
    known = [each.number for each in info.attempts]
    written = [segment.attempt for segment in list_segments(run_dir / JOURNAL_FOLDER)]
    return max([0, *known, *written]) + 1
