"""Run folders to look at: written line by line as the journal's format says, or by a real run."""

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner, Result

from bus import AttemptInfo, Event, RunInfo, encode
from runtime.cli._app import app

ROOT = Path(__file__).resolve().parents[3]
NOON = 1_790_000_000.0
"""When the runs of these tests begin, in Unix seconds."""


class RunFolder:
    """A run directory whose files are made by hand, as another process would have left them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = RunInfo(id="id-1", name=path.name, project="demo", created=NOON)
        self._seq: dict[tuple[int, int], int] = {}
        (path / "journal").mkdir(parents=True)
        self.info.save(path)

    def attempt(self, number: int, **fields: object) -> None:
        """Adds an attempt to run.json; by default one whose process is this one, so it lives."""
        here = AttemptInfo.here(number, None)
        info = here.model_copy(update={"started": NOON + number, **fields})
        self.info.attempts.append(info)
        self.info.save(self.path)

    def write(self, *events: Event, attempt: int = 1, rank: int = 0, segment: int = 1) -> None:
        """Appends events to a segment."""
        for event in events:
            seq = self._seq.get((attempt, rank), 0) + 1
            self._seq[attempt, rank] = seq
            rest = b'"v":1,"seq":%d,%b' % (seq, encode(event)[1:])
            line = b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)
            self.write_raw(line, attempt=attempt, rank=rank, segment=segment)

    def write_raw(self, data: bytes, *, attempt: int = 1, rank: int = 0, segment: int = 1) -> None:
        """Appends bytes to a segment, damaged ones for instance."""
        with self.segment(attempt=attempt, rank=rank, number=segment).open("ab") as file:
            file.write(data)

    def segment(self, *, attempt: int = 1, rank: int = 0, number: int = 1) -> Path:
        """The path of a segment."""
        return self.path / "journal" / f"rank{rank}-a{attempt}-{number:06d}.jsonl"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """An empty run `runs/gpt` below the current directory."""
    monkeypatch.chdir(tmp_path)
    return RunFolder(tmp_path / "runs" / "gpt")


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Runs a command in this process; nothing but its exit may come out of it."""

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def start(
    tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command in a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        arguments: Sequence[str | Path], *, stdout: IO[str] | None = None, **variables: str
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "runtime.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **variables},
            text=True,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def python(tmp_path: Path, environment: dict[str, str]) -> Callable[[str], str]:
    """Runs a program in a fresh interpreter and returns what it printed."""

    def run(program: str) -> str:
        done = subprocess.run(  # noqa: S603 - a program of the test
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which this source tree can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
