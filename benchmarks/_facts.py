"""What a reader must know of the machine to judge a number; nothing that identifies it."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LIBRARIES = ("torch", "pydantic", "orjson", "anyio")


def load() -> float:
    """Processes that wanted a core during the last minute, on average."""
    return os.getloadavg()[0]


def describe(load_before: float) -> list[str]:
    """Describe commit, versions and machine in lines of Markdown."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return [
        f"- date: {datetime.now(UTC).date().isoformat()}",
        f"- commit: {_commit()}",
        f"- Python {platform.python_version()} ({sys.implementation.name}), {versions}",
        f"- {platform.system()} {platform.release().split('-')[0]}, {_processor()}",
        f"- {os.cpu_count()} cores, load average {load_before:.1f} before and {load():.1f} after",
    ]


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "bus", "runtime")
    return f"{commit} with changes" if changed else commit or "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ("git", *arguments),  # noqa: S607 - whichever git there is
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
