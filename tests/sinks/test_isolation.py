"""Five sinks on one journal: what ails three of them costs the other two nothing. Virtual time."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
import trio.testing

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Batch,
    BatchLimits,
    MetricsLogged,
    Pace,
    Promise,
    RunInfo,
    Sink,
    State,
    UnavailableError,
    encode,
    sink_context,
)
from bus._delivery import Delivery
from bus._feed import Feed
from bus._journal import Journal
from tests.bus.delivery.conftest import inline

pytestmark = pytest.mark.anyio
PERIOD, BURST = 20.0, 10
COUNT = 2400
"""So many events in bursts: an hour and twenty minutes."""
OUTAGE = (600.0, 4200.0)
WISH = 7.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Trio with a clock that jumps as soon as everybody waits."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Server:
    """What a destination holds, with how long each event took to get there."""

    rows: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    places: set[tuple[int, int, int]] = field(default_factory=set)
    failures: int = 0

    def take(self, batch: Batch, published: list[float], *, once: bool) -> None:
        """Store a batch; a place that is known already counts only where nothing is said once."""
        for record in batch:
            assert isinstance(record.event, MetricsLogged)
            place = (record.attempt, record.rank, record.seq)
            number = record.event.metrics["n"]
            if once and place in self.places:
                continue
            if place not in self.places:
                self.lags.append(anyio.current_time() - published[int(number)])
            self.places.add(place)
            self.rows.append(number)


Behaviour = Callable[[Server, float, Callable[[], None]], Awaitable[None]]
"""What a server does at so many seconds into the run, with a function that stores the batch."""


class Posting(Sink):
    """Posts to a `Server` that lives in it, and whose mood a behaviour decides."""

    wants = (MetricsLogged,)
    limits = BatchLimits(events=100, age=1.0)

    def __init__(self, behaviour: Behaviour, published: list[float]) -> None:
        super().__init__()
        self.server = Server()
        self._behaviour = behaviour
        self._published = published

    async def write(self, batch: Batch, state: State) -> State:
        once = self.promise.delivery == "once"
        await self._behaviour(
            self.server,
            anyio.current_time() - self._published[0],
            lambda: self.server.take(batch, self._published, once=once),
        )
        return state


async def healthy(_server: Server, _elapsed: float, take: Callable[[], None]) -> None:
    take()


async def down_for_an_hour(server: Server, elapsed: float, take: Callable[[], None]) -> None:
    if OUTAGE[0] <= elapsed < OUTAGE[1]:
        server.failures += 1
        raise UnavailableError("connection refused")
    take()


def moody(seed: int) -> Behaviour:
    """429 with a wish, 500 before and after the batch is stored, and now and then an answer.

    Its mood ends with the training: closing gives up after six failures in a row, by promise.
    """
    dice = random.Random(seed)  # noqa: S311 - the same each time is what is wanted

    async def answer(server: Server, elapsed: float, take: Callable[[], None]) -> None:
        rolled = dice.random() if elapsed < COUNT // BURST * PERIOD else 1.0
        if rolled < 0.2:
            server.failures += 1
            raise UnavailableError("HTTP 429", retry_after=WISH)
        if rolled < 0.6:
            if rolled < 0.4:
                take()
            server.failures += 1
            raise UnavailableError("HTTP 500")
        take()

    return answer


async def slow(_server: Server, _elapsed: float, take: Callable[[], None]) -> None:
    await anyio.sleep(3.0)
    take()


def kinds(published: list[float]) -> dict[str, Posting]:
    """The five, each with the promise that its server can keep."""
    once, again = Promise(delivery="once"), Promise(delivery="at least once")
    cast = {
        "down": (down_for_an_hour, once),
        "moody": (moody(20261121), once),
        "slow": (slow, again),
        "healthy": (healthy, once),
        "healthy-too": (healthy, again),
    }
    return {
        name: type("Named", (Posting,), {"name": name, "promise": promise})(answer, published)
        for name, (answer, promise) in cast.items()
    }


async def train(run_dir: Path, sinks: list[Posting], published: list[float]) -> None:
    """Publish for an hour and twenty minutes while the sinks are served; then let them finish."""
    run_dir.mkdir()  # noqa: ASYNC240 - virtual time does not wait for threads
    info = RunInfo.new("run", None)
    info.attempts.append(AttemptInfo.here(1, None))
    info.save(run_dir)
    journal = Journal(run_dir / JOURNAL_FOLDER, rank=0, attempt=1)
    feed, context = Feed(run_dir), sink_context(run_dir)
    pace = Pace(look=4.0)
    deliveries = [Delivery(sink, context, feed, disk=inline, pace=pace) for sink in sinks]
    async with anyio.create_task_group() as group:
        for delivery in deliveries:
            group.start_soon(delivery.run)
        for start in range(0, COUNT, BURST):
            published += [anyio.current_time()] * BURST
            for n in range(start, start + BURST):
                event = MetricsLogged(step=n, metrics={"n": float(n)})
                journal.append(encode(event), event.time)
            assert journal.flush()
            await anyio.sleep(PERIOD)
        for delivery in deliveries:
            delivery.finish("finished", anyio.current_time() + 3600.0)
    journal.close()
    assert all(delivery.account.complete for delivery in deliveries)


async def worst_lag_alone(run_dir: Path) -> float:
    """What a healthy sink's lag is when it has the journal to itself."""
    published: list[float] = []
    sink = kinds(published)["healthy"]
    await train(run_dir, [sink], published)
    return max(sink.server.lags)


async def test_what_ails_one_sink_costs_no_other_anything(tmp_path):
    """Each server holds every event in order, once where promised; healthy lags are as alone."""
    alone = await worst_lag_alone(tmp_path / "alone")
    published: list[float] = []
    sinks = kinds(published)
    await train(tmp_path / "together", list(sinks.values()), published)

    everything = [float(n) for n in range(COUNT)]
    for name, sink in sinks.items():
        rows = sink.server.rows
        assert list(dict.fromkeys(rows)) == everything, name
        if sink.promise.delivery == "once":
            assert rows == everything, name
    for name in ("healthy", "healthy-too"):
        assert max(sinks[name].server.lags) == pytest.approx(alone, abs=1e-6)
    assert sinks["down"].server.failures >= 60  # its back-off is at most a minute
    assert max(sinks["down"].server.lags) >= OUTAGE[1] - OUTAGE[0]
    assert sinks["moody"].server.failures > 100
    assert 3.0 <= max(sinks["slow"].server.lags) <= alone + 3.0 + 0.3
