"""Decides which run a process works on: a new one, or the next attempt at an old one.

No disk failure stops training: without a folder the run lives in memory and says so.
"""

import functools
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import torch

from bus import (
    AttemptInfo,
    JsonObject,
    Outcome,
    RunInfo,
    RunNotFoundError,
    RunStarted,
    create_run_dir,
    find_run,
    folder_name,
    masked_command,
    next_attempt,
    run_state,
)
from runtime._ending import Ending

log = logging.getLogger("runtime")

Resume: TypeAlias = "str | os.PathLike[str] | None"
"""None, "auto", or the folder of a run."""

_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


@dataclass(frozen=True, slots=True)
class Identity:
    """The run and the attempt that this process makes.

    Attributes:
        folder: The run's folder.
        stored: Whether the folder exists; otherwise the disk refused.
        previous: How the attempt before ended; None for a new run.
        keeps: Whether this process keeps run.json and delivers, for all ranks on its disk.
    """

    folder: Path
    stored: bool
    info: RunInfo
    attempt: int
    previous: Outcome | None
    keeps: bool = True

    def started(self, config: JsonObject, from_step: int | None) -> RunStarted:
        """The first event of this attempt, given the step that it goes on from."""
        return RunStarted(
            name=self.info.name,
            run_id=self.info.id,
            project=self.info.project,
            attempt=self.attempt,
            resumed_from_step=from_step if self.previous else None,
            previous_outcome=self.previous,
            config=config,
            facts=facts(),
        )


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun or SLURM started this job again after an interruption."""
    return any(environment.get(name, "0") not in ("", "0") for name in _RESTARTS)


def identify(
    *, name: str, project: str | None, parent: Path, resume: Resume, from_step: int | None
) -> Identity:
    """Find or make the run's folder and count this attempt in its run.json.

    Args:
        name: The run's name; a second run of the same name becomes `name-2`.
        project: What it belongs to.
        parent: The folder of runs.
        resume: None for a new run unless a launcher restarted the job, "auto" for the newest run of
            this name if there is one, or the folder of a run.
        from_step: The step of the checkpoint that a resumed run goes on from.

    Raises:
        RunNotFoundError: `resume` is a folder that holds no run.
        ValueError: The name cannot be a folder's name.
    """
    folder_name(name)
    found = _to_resume(name, parent, resume)
    if found is not None:
        try:
            return _resumed(found, from_step)
        except RunNotFoundError as error:
            if resume not in (None, "auto"):
                raise
            log.warning("%s; it cannot be resumed, so this is a new run", error)
    try:
        folder = create_run_dir(name, parent)
    except OSError as error:
        log.warning(
            "the run's folder under %s cannot be made (%s); training goes on, events are kept in "
            "memory and written if the disk allows it later",
            parent,
            error.strerror or error,
        )
        folder = parent / folder_name(name)
        info = RunInfo.new(folder.name, project)
        info.attempts.append(AttemptInfo.here(1, None))
        return Identity(folder, stored=False, info=info, attempt=1, previous=None)
    info = RunInfo.new(folder.name, project)
    info.attempts.append(AttemptInfo.here(1, None))
    return Identity(folder, save(info, folder), info, attempt=1, previous=None)


def save(info: RunInfo, folder: Path) -> bool:
    """Store run.json; a disk that refuses is a warning. Tell whether it is stored."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        info.save(folder)
    except OSError as error:
        log.warning("run.json cannot be written to %s: %s", folder, error.strerror or error)
        return False
    return True


def _to_resume(name: str, parent: Path, resume: Resume) -> Path | None:
    if resume is None:
        return find_run(name, parent) if restarted() else None
    if resume == "auto":
        return find_run(name, parent)
    return Path(resume)


def _resumed(folder: Path, from_step: int | None) -> Identity:
    info = RunInfo.load(folder)
    state = run_state(folder)
    if state == "running":
        log.warning(
            "%s seems to be running still (process %s on %s); both write journals of their own, "
            "and what this one resumes replaces the other's",
            folder,
            info.attempts[-1].pid,
            info.attempts[-1].host,
        )
    attempt = next_attempt(folder, info)
    previous: Outcome = "crashed" if state == "running" else state
    if info.attempts and info.attempts[-1].outcome is None and state == "crashed":
        info.attempts[-1].outcome = "crashed"
    info.attempts.append(AttemptInfo.here(attempt, from_step))
    return Identity(folder, save(info, folder), info, attempt, previous)


def record_end(identity: Identity, ending: Ending) -> None:
    """Write how this attempt ended into run.json, beside what others wrote there meanwhile."""
    try:
        info = RunInfo.load(identity.folder)
    except RunNotFoundError:
        info = identity.info
    ours = info.attempt(identity.attempt)
    if ours is None:
        ours = AttemptInfo.here(identity.attempt, None)
        info.attempts.append(ours)
    ours.outcome, ours.error, ours.reason = ending.outcome, ending.error, ending.reason
    ours.ended = ending.time
    save(info, identity.folder)


def facts() -> JsonObject:
    """Where and with what this process runs; asks neither the network nor the device."""
    cuda: str | None = torch.version.cuda
    return {
        "hotloop": _version("hotloop"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": cuda,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "pid": os.getpid(),
        "folder": _working_folder(),
        "command": list(masked_command(sys.argv)),
        "git_commit": git_commit(),
    }


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted under the process
        return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def git_commit() -> str | None:
    """The commit of the working folder, or None where there is none or git does not answer."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
