"""Runs each measurement in a process of its own, where no other one has left anything behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _facts import ROOT

_HERE = Path(__file__).resolve().parent
_LIMIT = 1200.0
_SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def measure(
    script: str, *arguments: str, disk: str | None = None, python: str = sys.executable
) -> str:
    """Run a script of this folder with a fresh folder to write to; returns what it printed.

    Args:
        script: Its file name.
        arguments: What it gets after the folder.
        disk: Size of a private file system to give it instead of a part of the real one.
        python: The interpreter to run it with.

    Raises:
        RuntimeError: It failed; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="hotloop-bench-") as folder:
        command = [python, str(_HERE / script), folder, *arguments]
        if disk is not None:
            command = [*_namespace(), "sh", "-c", _SMALL_DISK, "sh", disk, folder, *command]
        done = subprocess.run(  # noqa: S603 - our own script, fixed arguments
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{script} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def can_mount() -> bool:
    """Whether this user may have a private mount namespace."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            (*_namespace(), "true"), capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _namespace() -> tuple[str, ...]:
    return ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
