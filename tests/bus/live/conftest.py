"""A bus with its journal, and scripts in processes of their own."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from bus import JOURNAL_FOLDER, Bus, BusOptions, Event, JournalReader, MetricsLogged
from tests.interpreter import Ended, Interpreter
from tests.waiting import HANG

AnyEvent = TypeVar("AnyEvent", bound=Event)


class Journal:
    """What is in the journal's files at this moment."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._reader: JournalReader | None = None
        self._metrics: list[dict[str, float]] = []

    @property
    def events(self) -> list[Event]:
        if not (self.run_dir / JOURNAL_FOLDER).is_dir():
            return []
        return [record.event for record in JournalReader(self.run_dir).records(superseded=True)]

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def values(self, key: str = "n") -> list[float]:
        """One metric's values in order; reads only what is new, so that no flood outruns it."""
        if self._reader is None and (self.run_dir / JOURNAL_FOLDER).is_dir():
            self._reader = JournalReader(self.run_dir)
        if self._reader is not None:
            rows = self._reader.poll_rows(types={"metrics_logged"})
            self._metrics += [metrics for row in rows if (metrics := row.data["metrics"])]
        return [metrics[key] for metrics in self._metrics if key in metrics]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "run")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What subscribers under test block on; set at the end, so that their threads end too."""
    event = threading.Event()
    yield event
    event.set()


class MakeBus(Protocol):
    def __call__(self, *, remembers: bool = True, **options: object) -> Bus: ...


@pytest.fixture
def make_bus(tmp_path: Path, release: threading.Event) -> Iterator[MakeBus]:
    """Opens buses that write every few milliseconds, and closes them at the end."""
    opened: list[Bus] = []

    def make(*, remembers: bool = True, **options: object) -> Bus:
        chosen = BusOptions(**{"flush_interval": 0.005, **options})
        folder = tmp_path / "run" / JOURNAL_FOLDER if remembers else None
        opened.append(Bus(folder, options=chosen))
        return opened[-1]

    yield make
    release.set()
    for bus in opened:
        bus.close(2)


@pytest.fixture
def bus(make_bus: MakeBus) -> Bus:
    return make_bus()


@pytest.fixture
def publish(bus: Bus) -> Callable[[int], None]:
    """Publishes metrics n = 0, 1, ... at steps of the same number."""

    def numbers(count: int) -> None:
        for n in range(count):
            bus.publish(MetricsLogged(step=n, metrics={"n": float(n)}))

    return numbers


class RunScript(Protocol):
    def __call__(self, code: str, seconds: float = HANG) -> Ended: ...


@pytest.fixture
def run_script(interpreter: Interpreter, tmp_path: Path) -> RunScript:
    """Runs a script in a process of its own, to the last; its runs belong under `FOLDER`."""

    def run(code: str, seconds: float = HANG) -> Ended:
        return interpreter.run_script(tmp_path, code, seconds, whole=True)

    return run
