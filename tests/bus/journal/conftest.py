"""What tests of the storage half share: a deadline, a soak factor, journals written by hand."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from bus import Event, encode
from bus._journal import Journal
from bus._reader import JournalReader, Record

ROOT = Path(__file__).resolve().parents[3]

WriteJournal = Callable[..., Path]


@pytest.fixture(scope="session")
def soak() -> int:
    """How many times the usual effort: HOTLOOP_SOAK, 1 by default."""
    return int(os.environ.get("HOTLOOP_SOAK", "1"))


@pytest.fixture
def make_folder() -> Iterator[Callable[[], Path]]:
    """Fresh folders in memory, for properties that need one per example."""
    shared = Path("/dev/shm")  # noqa: S108 - thousands of small files are faster there
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as parent:
        yield lambda: Path(tempfile.mkdtemp(dir=parent))


@pytest.fixture(scope="session")
def write_journal() -> WriteJournal:
    """Write events as one attempt's and rank's journal of the run in a folder."""

    def write(run_dir: Path, events: Iterable[Event], **options: int) -> Path:
        options = {"rank": 0, "attempt": 1, **options}
        every = options.pop("flush_every", 1_000_000)
        journal = Journal(run_dir / "journal", **options)
        for index, event in enumerate(events, start=1):
            journal.append(encode(event), event.time, keep=event.lifecycle)
            if index % every == 0:
                assert journal.flush()
        assert journal.flush()
        journal.close()
        return run_dir

    return write


@pytest.fixture(scope="session")
def read() -> Callable[[Path], tuple[list[Record], int]]:
    """Everything a run's journal holds, superseded or not, and how many lines are damaged."""

    def read_all(run_dir: Path) -> tuple[list[Record], int]:
        reader = JournalReader(run_dir)
        return list(reader.records(superseded=True)), reader.damage

    return read_all


@pytest.fixture(scope="session")
def start_script() -> Callable[..., subprocess.Popen[str]]:
    """Start one of the scripts beside the tests, with the packages importable."""

    def start(
        script: str, *arguments: object, before: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own script
            [*before, sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    return start
