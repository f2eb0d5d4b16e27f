"""Interpreters that have the vendors' packages, and programs that run in them to a good end."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.nobody import settings

ROOT = Path(__file__).resolve().parents[2]


def find_python(vendor: str, package: str) -> str | None:
    """An interpreter that has a vendor's package: the one that a variable names, or this one."""
    given = os.environ.get(f"HOTLOOP_{vendor}_PYTHON")
    if given:
        return given
    return sys.executable if importlib.util.find_spec(package) else None


def needs(
    python: str | None, vendor: str, packages: str, *, timeout: float
) -> list[pytest.MarkDecorator]:
    """The marks of tests that run programs in an interpreter; `timeout` is of a busy machine."""
    reason = (
        f"needs the packages {packages}: `make test-vendors`, or set HOTLOOP_{vendor}_PYTHON to an "
        "interpreter with them"
    )
    return [
        pytest.mark.slow,
        pytest.mark.timeout(timeout),
        pytest.mark.skipif(python is None, reason=reason),
    ]


def run_program(
    python: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str],
    given: str = "",
    timeout: float = 200.0,
) -> str:
    """Run a program, which has to end well; what it printed.

    Args:
        python: The interpreter.
        *arguments: The program and what it is told.
        folder: Where it works, and its home.
        environment: What it is to find there, beside what is no service's.
        given: Its standard input.
        timeout: Seconds until it is killed; a test fails of that.
    """
    kept = {name: os.environ[name] for name in os.environ.keys() - settings()}
    ours = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(  # noqa: S603 - our own arguments
        [python, *arguments],
        input=given,
        cwd=folder,
        env={**kept, **ours, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def packages_of(python: str, folder: Path) -> str:
    """The folder of an interpreter's packages, for another one that lacks some of them."""
    look = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return run_program(python, "-c", look, folder=folder, environment={}).strip()


def train(
    python: str,
    service: str,
    library: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    packages: str = "",
) -> None:
    """Run `reporting.py` under Transformers' trainer or ours, in a folder that may not exist.

    Args:
        python: An interpreter with Transformers.
        service: Which of the script's services.
        library: `transformers` or `hotloop`.
        folder: Where it works.
        environment: What it is to find there.
        packages: Where the service's client is, if that is not among the interpreter's own.
    """
    folder.mkdir(exist_ok=True)
    alike = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    run_program(
        *(python, "-m", "tests.vendors.reporting", service, library, packages),
        folder=folder,
        environment={**alike, **environment},
        timeout=400,  # ClearML's second process takes two minutes to end at times
    )
