"""What a later event makes needless is left out where a sink says so; on virtual time."""

import tempfile
from pathlib import Path

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import (
    AlertRaised,
    BatchLimits,
    Evaluated,
    MetricsLogged,
    RejectedError,
    Sink,
    UnavailableError,
    list_cursors,
)
from tests.bus.delivery.conftest import ScriptedSink
from tests.bus.delivery.test_policies import deliver, until
from tests.bus.delivery.test_properties import EXAMPLES, Moody, answers, journal
from tests.bus.delivery.test_properties import deliver as deliver_or_die

pytestmark = pytest.mark.anyio


class LatestAlerts(ScriptedSink):
    """Of alerts with one title that wait it takes the last."""

    wants = (AlertRaised, MetricsLogged)
    limits = BatchLimits(events=4, age=2.0)
    coalesces = {AlertRaised: ("title", "level")}  # noqa: RUF012 - as sinks write it

    @property
    def told(self):
        return [r.event.text for r in self.got if isinstance(r.event, AlertRaised)]


def alerts(count, *titles):
    """Alerts that take turns with these titles; the text is their number."""
    return [AlertRaised(title=titles[n % len(titles)], text=str(n)) for n in range(count)]


async def test_after_an_outage_the_latest_of_each_is_told(write_run):
    """1,000 alerts of three titles are three messages, in order, and the others are counted."""
    run = write_run(alerts(1000, "nan", "slow", "disk"))
    sink = LatestAlerts()
    account = await deliver(run.delivery(sink))

    assert sink.told == ["997", "998", "999"]
    assert (account.delivered, account.coalesced, account.pending) == (3, 997, 0)
    assert account.complete


async def test_what_is_under_way_stays_as_it_is(write_run):
    """A batch that failed comes again as it was, whatever has happened since."""
    write_run(alerts(6, "nan"), ended=False)
    run = write_run(alerts(6, "nan"), attempt=2)
    sink = LatestAlerts([UnavailableError("down")] * 3)
    account = await deliver(run.delivery(sink))

    assert sink.batches[:4] == [sink.batches[0]] * 4
    assert sink.told == ["5", "5"]
    assert (account.delivered, account.coalesced) == (2, 10)


async def test_metrics_between_them_all_arrive(write_run):
    """Only what is declared is left out, and the order is that of the journal."""
    events = [each for n in range(20) for each in (*alerts(1, "nan"), metrics(n))]
    run, sink = write_run(events), LatestAlerts()
    account = await deliver(run.delivery(sink))

    assert sink.values == list(range(20))
    assert [r.seq for r in sink.got] == sorted(r.seq for r in sink.got)
    assert account.delivered + account.coalesced == 40
    assert account.coalesced >= 13


async def test_an_alert_that_comes_again_and_again_is_told_in_time(write_run):
    """The first one's age decides when, not the latest one's."""
    run, sink = write_run(alerts(1, "nan"), ended=False), LatestAlerts()
    delivery = run.delivery(sink)
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        for attempt in range(2, 8):
            await anyio.sleep(0.5)
            write_run(alerts(1, "nan"), attempt=attempt, ended=False)
        await until(lambda: sink.got)
        delivery.finish(None, anyio.current_time() + 10)

    assert sink.times[0] - started <= 2.5


async def test_halves_that_come_again_after_a_death_leave_out_the_same(write_run):
    """What is replaced by a record of the second half does not come back with the first."""
    events = [alerts(1, "nan")[0], metrics(0), metrics(1), *alerts(1, "nan")]
    run = write_run(events)
    sink = LatestAlerts([RejectedError("too many"), lambda _batch: anyio.sleep_forever()])
    killed = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(killed.run)
        await until(lambda: len(sink.batches) == 2)
        killed.abandon()
    again = LatestAlerts()
    account = await deliver(run.delivery(again))

    assert again.batches[0] == sink.batches[1]
    assert (account.delivered, account.coalesced, account.complete) == (3, 1, True)


@pytest.mark.timeout(2 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    kinds=st.lists(st.sampled_from("mabc"), min_size=1, max_size=60),
    size=st.integers(1, 20),
    script=answers,
    poison=st.frozensets(st.integers(0, 59), max_size=5),
)
def test_counts_add_up_whoever_dies(kinds, size, script, poison):
    """Each record is taken, dead or replaced by a later one, and counted as just that."""
    server = set()
    limits = BatchLimits(events=size, age=0.0)
    shared = {"limits": limits, "wants": LatestAlerts.wants, "coalesces": LatestAlerts.coalesces}
    kind = type("Sized", (Moody,), shared)
    events = [
        metrics(n) if letter == "m" else AlertRaised(title=letter, step=n)
        for n, letter in enumerate(kinds)
    ]
    with tempfile.TemporaryDirectory() as folder:
        run = journal(Path(folder), events)
        script = list(script)
        for _ in range(42):
            sink = kind(script, poison, server)
            clock = {"clock": trio.testing.MockClock(autojump_threshold=0)}
            if anyio.run(
                deliver_or_die, run, sink, len(kinds), backend="trio", backend_options=clock
            ):
                break
        counts = list_cursors(run.dir)["scripted"].counts

    left_out = set(range(len(kinds))) - server - poison
    assert all(kinds[n] != "m" and kinds[n] in kinds[n + 1 :] for n in left_out)
    assert counts.delivered + counts.dead + counts.coalesced == len(kinds)


def test_points_of_metrics_are_never_left_out():
    """Nor can fields be named that there are not."""
    for kind in (MetricsLogged, Evaluated):
        with pytest.raises(TypeError, match="each point of a metric counts"):
            type("Careless", (Sink,), {"name": "careless", "coalesces": {kind: ()}})
    with pytest.raises(TypeError, match="AlertRaised has no titel"):
        type("Mistyped", (Sink,), {"name": "mistyped", "coalesces": {AlertRaised: ("titel",)}})


def metrics(n):
    return MetricsLogged(step=n, metrics={"n": float(n)})
