"""Asks something of a run that another process trains, and tells whether that took it."""

import getpass
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from bus import RunInfo, RunNotFoundError, Save, Stop, post, run_state
from runtime.cli._exit import CommandError, UsageError

_GLANCE: Final = 0.05


def ask(run_dir: Path, kind: type[Stop | Save], reason: str, seconds: float | None) -> str:
    """Lay a request into the run's mailbox and say what became of it.

    Args:
        run_dir: The run's folder.
        kind: What to ask.
        reason: Why.
        seconds: How long the run may take to take it; None to leave it there.

    Raises:
        UsageError: There is no run that could take anything.
        CommandError: The run has ended, does not take it, or its folder cannot be written to.
    """
    _check_runs(run_dir)
    request = kind(reason=reason, by=_me())
    try:
        file = post(run_dir, request)
    except OSError as error:
        raise CommandError(f"{run_dir} cannot be written to: {error.strerror or error}") from error
    if seconds is None:
        return f"{run_dir}: the request lies in {file}"
    deadline = time.monotonic() + seconds
    while file.exists():
        if _has_ended(run_dir):
            with suppress(OSError):
                file.unlink()
            _check_runs(run_dir)
        if time.monotonic() > deadline:
            raise CommandError(
                f"{run_dir} has not taken the request within {seconds:g} s; is its process "
                f"({_process(run_dir)}) alive? It may still take it; withdraw it with: rm {file}"
            )
        time.sleep(_GLANCE)
    return f"{run_dir} has taken the request: {request.type}, at the end of the step it is at"


def _check_runs(run_dir: Path) -> None:
    try:
        state = run_state(run_dir)
    except RunNotFoundError as error:
        raise UsageError(str(error)) from error
    if state == "crashed":
        raise CommandError(f"{run_dir} has crashed: its process ({_process(run_dir)}) is gone")
    if state != "running":
        raise CommandError(f"{run_dir} has ended already ({state})")


def _has_ended(run_dir: Path) -> bool:
    try:
        return run_state(run_dir) != "running"
    except RunNotFoundError:
        return False


def _process(run_dir: Path) -> str:
    attempts = RunInfo.load(run_dir).attempts
    return f"{attempts[-1].pid} on {attempts[-1].host}" if attempts else "unknown"


def _me() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
