"""For tests of subscribers and of code that publishes: record, replay, and check a journal.

```
recorder = Recorder()
run.subscribe(MetricsLogged)(recorder)
...
run.close()
assert recorder.metrics("loss") == [2.5, 2.4]

JournalAsserter(run.dir).complete().ends("finished").has(CheckpointSaved, step=100)

requests = await replay(run.dir, stop_on_divergence, MetricsLogged)

with ended_runs():  # in a fixture: what a test leaves open would live on to the end of them all
    ...
```
"""

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from bus._control import Control, Handle
from bus._event import Event, Metrics
from bus._events import Gap, Outcome, RunEnded, RunStarted
from bus._lifetime import open_runs
from bus._lines import list_segments
from bus._reader import JournalReader, Record
from bus._registration import with_control
from bus._requests import Request
from bus._rundir import JOURNAL_FOLDER
from bus._subscription import EventStream, Filter, Subscription, When

AnyEvent = TypeVar("AnyEvent", bound=Event)


@contextmanager
def ended_runs() -> Generator[None]:
    """Close the runs that are opened within and left open, as the process's exit would."""
    before = open_runs()
    try:
        yield
    finally:
        for each in open_runs() - before:
            each.close_at_exit()


class Recorder:
    """A subscriber that remembers everything it was shown.

    Attributes:
        events: What came, in order.
        ended: Whether the stream ended.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended: bool = False

    async def __call__(self, events: EventStream[Any]) -> None:
        """Read the stream to its end."""
        async for event in events:
            self.events.append(event)
        self.ended = True

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    def metrics(self, key: str) -> list[float]:
        """The values of one metric, whichever events carried it."""
        found: list[float] = []
        for event in self.events:
            carried: object = getattr(event, "metrics", None)
            if isinstance(carried, dict) and key in carried:
                found.append(cast("Metrics", carried)[key])
        return found


class JournalAsserter:
    """Checks what a run's journal holds; each check returns the asserter or raises AssertionError.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._reader = JournalReader(run_dir)
        self.records: list[Record] = list(self._reader.records(superseded=True))
        self.damage: int = self._reader.damage

    @property
    def events(self) -> list[Event]:
        """Every event, superseded ones included."""
        return [record.event for record in self.records]

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    def complete(self) -> Self:
        """No line is damaged or missing, and no gap was recorded."""
        _check(self.damage == 0, f"{self.damage} damaged lines in {self._run_dir}")
        gaps = [f"{gap.count} lost: {gap.reason}" for gap in self.of(Gap)]
        _check(not gaps, f"gaps in {self._run_dir}: {gaps}")
        return self.unbroken()

    def unbroken(self) -> Self:
        """Within each attempt and rank the positions count from 1 without holes."""
        by_writer: dict[tuple[int, int], list[int]] = {}
        for record in self.records:
            by_writer.setdefault((record.attempt, record.rank), []).append(record.seq)
        for (attempt, rank), positions in by_writer.items():
            expected = list(range(1, len(positions) + 1))
            _check(
                positions == expected,
                f"attempt {attempt}, rank {rank}: positions {_first_difference(positions)}",
            )
        return self

    def begins(self) -> Self:
        """Each attempt's first event is its RunStarted."""
        seen: set[int] = set()
        for record in self.records:
            if record.attempt not in seen:
                seen.add(record.attempt)
                kind = type(record.event).__name__
                first = isinstance(record.event, RunStarted)
                _check(first, f"attempt {record.attempt} begins with {kind}")
        return self

    def ends(self, outcome: Outcome) -> Self:
        """The last event is a RunEnded with this outcome."""
        _check(bool(self.records), f"{self._run_dir} holds no events")
        last = self.records[-1].event
        _check(isinstance(last, RunEnded), f"the last event is {type(last).__name__}")
        found = last.outcome if isinstance(last, RunEnded) else None
        _check(found == outcome, f"the run ended as {found}, not as {outcome}")
        return self

    def has(self, kind: type[Event], /, *, count: int | None = None, **fields: object) -> Self:
        """There is an event of this class with these field values; exactly `count` if given."""
        found = [event for event in self.of(kind) if _matches(event, fields)]
        wanted = f"{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in fields.items())})"
        if count is None:
            _check(bool(found), f"no {wanted} among {len(self.of(kind))} of that class")
        else:
            _check(len(found) == count, f"{len(found)} times {wanted}, not {count}")
        return self

    def segments(self) -> list[Path]:
        """The journal's files in reading order."""
        folder = self._run_dir / JOURNAL_FOLDER
        return [folder / str(name) for name in list_segments(folder)]


class _AtOnce(Control):
    """Applies each request the moment it is made, so that nobody waits for a training loop."""

    def __init__(self, publish: Callable[[Event], object]) -> None:
        super().__init__(publish)
        self.requests: list[Request] = []

    def request(self, request: Request) -> Handle:
        handle = super().request(request)
        self.requests.extend(self.safe_point(0).requests)
        return handle


async def replay(
    source: Path | Iterable[Event],
    subscriber: Callable[..., Awaitable[Any]],
    *types: type[Event],
    when: When | None = None,
) -> Sequence[Request]:
    """Show a recorded run, or events of your own, to a subscriber and return what it asked for.

    Runs in the current event loop, without threads and without a clock; what is asked counts as
    applied at once. Superseded events are left out.

    Args:
        source: A run's folder, or events.
        subscriber: A coroutine function as for `subscribe`: of a stream, or of a stream and the
            control channel.
        types: Event classes it is shown; all if none is given.
        when: A predicate as for `subscribe`.
    """
    events = (
        [record.event for record in JournalReader(source).records()]
        if isinstance(source, Path)
        else list(source)
    )
    filters = Filter(types or (Event,), when)
    subscription = Subscription("replay", filters, buffer=max(1, len(events)))
    for event in events:
        if isinstance(event, filters.types):
            subscription.offer(event)
    subscription.end()
    control = _AtOnce(lambda _event: None)
    await with_control(subscriber)(EventStream[Any](subscription), control)
    return control.requests


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _matches(event: Event, fields: dict[str, object]) -> bool:
    return all(getattr(event, name, None) == value for name, value in fields.items())


def _first_difference(positions: list[int]) -> str:
    for expected, found in enumerate(positions, start=1):
        if expected != found:
            return f"hold {found} where {expected} belongs"
    return "are fine"
