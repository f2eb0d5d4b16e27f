"""Demos in this process and in processes of their own."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from runtime.demo import DemoOptions, DemoSummary, run_demo
from tests.interpreter import Ended, Interpreter
from tests.waiting import HANG

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """The toy is too small to share, and a busy machine makes torch's threads wait for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quick(folder: Path, **options: object) -> DemoSummary:
    """Runs the quick demo without showing anything."""
    chosen = {"dir": folder, "quick": True, "progress": False, **options}
    return run_demo(DemoOptions(**chosen), console=Console(file=StringIO()))


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., DemoSummary]:
    """Runs the quick demo in a folder of this test."""
    return partial(quick, tmp_path)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> DemoSummary:
    """A quick demo that ended well, for everybody to look at."""
    return quick(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The quick demo as Python's arguments."""
    return ["-m", "runtime.demo", "--quick", "--dir", str(tmp_path)]


@pytest.fixture
def environment() -> dict[str, str]:
    """Finds the packages from anywhere, and a terminal that can do everything."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    unwanted = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "xterm-256color",
    }


@pytest.fixture
def run_command(
    interpreter: Interpreter, command: list[str], environment: dict[str, str], tmp_path: Path
) -> Callable[..., Ended]:
    """Runs the quick demo in a process of its own, without a terminal."""

    def run(*arguments: str) -> Ended:
        words = [*command, *arguments]
        return interpreter.run(words, env=environment, cwd=tmp_path, timeout=4 * HANG)

    return run
