"""What a delivery does when a destination does not take a batch; on virtual time."""

import logging
from itertools import pairwise

import anyio
import pytest

from bus import (
    Backoff,
    BatchLimits,
    MisconfiguredError,
    Pace,
    RejectedError,
    StillOwnedError,
    UnavailableError,
    list_cursors,
)
from bus._dead import DeadLetters
from tests.bus.delivery.conftest import LimitedSink, ScriptedSink

pytestmark = pytest.mark.anyio


async def until(condition):
    """Wait, at most an hour of virtual time."""
    pause = 0.05
    with anyio.fail_after(3600):
        while not condition():
            await anyio.sleep(pause)
            pause = min(1.0, pause * 1.02)


async def deliver(delivery, outcome="finished", seconds=10_000.0):
    """Deliver what is there, and end."""
    delivery.finish(outcome, anyio.current_time() + seconds)
    await delivery.run()
    return delivery.account


async def test_everything_arrives_once_in_order(write_run):
    """Batches within the limits, then the outcome; the account adds up."""
    run, sink = write_run(25), LimitedSink()
    account = await deliver(run.delivery(sink))

    assert sink.values == list(range(25))
    assert [len(batch) for batch in sink.batches] == [10, 10, 5]
    assert sink.calls == ["open", "close finished", "release"]
    assert (account.delivered, account.pending, account.complete) == (25, 0, True)
    cursor = list_cursors(run.dir)["scripted"]
    assert cursor.state == {"written": 25}
    assert cursor.closed == "finished"
    assert cursor.health.status == "finished"


async def test_nothing_is_sent_twice_by_the_next_process(write_run):
    """Who goes on begins behind the cursor, with the state of that point."""
    run = write_run(25)
    await deliver(run.delivery(LimitedSink()))
    again = LimitedSink()
    account = await deliver(run.delivery(again))

    assert again.got == []
    assert account.delivered == 25


async def test_an_outage_ends_with_everything_delivered_in_the_same_batches(write_run):
    """While the run lives it is tried for as long as it takes; boundaries stay."""
    run = write_run(25)
    sink = LimitedSink([None, *[UnavailableError("down")] * 40])
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: len(sink.got) >= 25)
        delivery.finish("finished", anyio.current_time() + 10)

    assert sink.values == list(range(25))
    assert sink.batches[1:41] == [sink.batches[1]] * 40
    assert delivery.account.complete


async def test_a_servers_wish_is_obeyed(write_run):
    """`Retry-After` is a lower bound of the wait."""
    run = write_run(1)
    sink = ScriptedSink([UnavailableError("busy", retry_after=120)])
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: sink.got)
        delivery.finish("finished", anyio.current_time() + 10)

    assert 120 <= sink.times[1] - sink.times[0] <= 121


async def test_a_wish_beyond_the_end_is_not_waited_for(write_run):
    """Closing ends at once when the server wants to hear of us later than there is time."""
    run = write_run(5)
    sink = ScriptedSink([UnavailableError("busy", retry_after=120)] * 9)
    started = anyio.current_time()
    account = await deliver(run.delivery(sink), seconds=30)

    assert anyio.current_time() - started < 30
    assert (account.pending, account.complete) == (5, False)
    assert len(sink.batches) == 1


async def test_a_dead_server_does_not_use_up_the_time_at_the_end(write_run):
    """After some failures in a row closing tries once more and no longer."""
    run = write_run(5)
    sink = ScriptedSink([UnavailableError("down")] * 1000)
    started = anyio.current_time()
    account = await deliver(run.delivery(sink), seconds=300)

    assert anyio.current_time() - started < 10
    assert 5 <= len(sink.batches) <= 7
    assert (account.status, account.pending) == ("backing off", 5)


@pytest.mark.parametrize("guilty", [{3}, {0}, {9}, {0, 9}, {4, 5}, {2, 13, 24}, set(range(10))])
async def test_poison_is_found_by_halving(write_run, guilty):
    """Only the guilty records become dead letters; the others arrive in order."""
    run, sink = write_run(25), LimitedSink()

    def refuse(batch):
        if any(record.event.metrics["n"] in guilty for record in batch):
            raise RejectedError("bad value 7")

    sink.answers = [refuse] * 100
    account = await deliver(run.delivery(sink))

    assert sink.values == [n for n in range(25) if n not in guilty]
    letters = list(DeadLetters(run.dir, "scripted").read())
    assert [record.event.metrics["n"] for _, record in letters] == sorted(guilty)
    assert {letter.why for letter, _ in letters} == {"bad value 7"}
    assert (account.delivered, account.dead) == (25 - len(guilty), len(guilty))
    assert account.complete


async def test_a_sink_may_name_the_guilty(write_run):
    """Then nothing needs to be halved."""
    run = write_run(10)
    sink = LimitedSink([RejectedError("these", guilty=(2, 5, 99))])
    account = await deliver(run.delivery(sink))

    assert len(sink.batches) == 2
    assert sink.values == [0, 1, 3, 4, 6, 7, 8, 9]
    assert account.dead == 2


async def test_twenty_refusals_in_a_row_suspend(write_run, caplog):
    """So many dead letters without one success are a wrong setting, not bad values."""
    run = write_run(50)
    sink = ScriptedSink()

    def refuse(_batch):
        raise RejectedError("no")

    sink.answers = [refuse] * 1000
    with caplog.at_level(logging.ERROR, "bus"):
        account = await deliver(run.delivery(sink))

    assert account.status == "suspended"
    assert account.dead == 20
    assert account.pending == 30


async def test_a_wrong_setting_suspends_and_is_tried_again(write_run):
    """Nothing is lost, and every ten minutes it is tried whether it works now."""
    run = write_run(5)
    sink = ScriptedSink([MisconfiguredError("HTTP 401", fix="check the key")] * 3)
    seen = []
    delivery = run.delivery(sink, announce=lambda d: seen.append(d.account.status))
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: sink.got)
        delivery.finish("stopped", anyio.current_time() + 10)

    waits = [after - before for before, after in pairwise(sink.times)]
    assert all(600 <= wait <= 601 for wait in waits)
    assert seen == ["delivering", "suspended", "delivering", "finished"]
    assert delivery.account.delivered == 5


async def test_a_destination_that_cannot_be_opened_is_told_of_once(write_run):
    """However often it is tried, it is one outage."""

    class Closed(ScriptedSink):
        async def open(self, context, state):
            await super().open(context, state)
            if len(self.calls) < 6:
                raise UnavailableError("down")
            return state

    sink, seen = Closed(), []
    run = write_run(3)
    delivery = run.delivery(sink, announce=lambda d: seen.append(d.account.status))
    delivery.finish("finished", 600.0)
    await delivery.run()

    assert sink.calls.count("open") == 6
    assert seen == ["backing off", "delivering", "finished"]


async def test_stirring_arms_a_suspended_sink(write_run):
    """Somebody has changed the setting and says so."""
    run = write_run(5)
    sink = ScriptedSink([MisconfiguredError("HTTP 401")])
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: delivery.account.status == "suspended")
        delivery.stir()
        await until(lambda: sink.got)
        delivery.finish("stopped", anyio.current_time() + 10)

    assert sink.times[1] - sink.times[0] < 60


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), KeyError("k")])
async def test_a_bug_is_tried_five_times_and_suspended(write_run, caplog, error):
    """It is logged once with its traceback; nothing is lost."""
    run = write_run(5)
    sink = ScriptedSink([error] * 6)
    delivery = run.delivery(sink, pace=Pace(backoff=Backoff(first=0.1, ceiling=1.0)))
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: delivery.account.status == "suspended")
        assert len(sink.batches) == 6
        delivery.stir()
        await until(lambda: sink.got)
        delivery.finish("finished", anyio.current_time() + 10)

    assert sink.values == list(range(5))
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None


async def test_a_write_that_does_not_return_counts_as_no_answer(write_run):
    """After `write_timeout` the same batch is sent again."""
    run = write_run(5)

    class Hanging(ScriptedSink):
        write_timeout = 7.0

    sink = Hanging([lambda _batch: anyio.sleep_forever()])
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: sink.got)
        delivery.finish("finished", anyio.current_time() + 10)

    assert 7 <= sink.times[1] - sink.times[0] <= 8
    assert sink.batches[0] == sink.batches[1]


async def test_commits_in_between_are_kept(write_run):
    """What was acknowledged before a failure is not sent again."""
    run = write_run(10)

    async def half(batch):
        await batch.commit(4, {"half": True})
        raise UnavailableError("the second request failed")

    sink = LimitedSink([half])
    account = await deliver(run.delivery(sink))

    assert sink.values == list(range(4, 10))
    assert account.delivered == 10
    assert list_cursors(run.dir)["scripted"].state == {"half": True, "written": 6}


async def test_rates_hold(write_run):
    """No window of any limit sees more batches than allowed."""
    run = write_run(200)

    class Rated(ScriptedSink):
        limits = BatchLimits(events=10, age=0.0, rates=((1, 0.5), (4, 10.0)))

    sink = Rated()
    await deliver(run.delivery(sink))

    times = sink.times
    assert len(times) == 20
    assert all(b - a >= 0.5 for a, b in pairwise(times))
    assert all(b - a >= 10.0 for a, b in zip(times, times[4:], strict=False))


async def test_records_wait_for_company_no_longer_than_allowed(write_run):
    """A batch that is not full is sent when its first record is old enough."""
    run = write_run(3, ended=False)

    class Patient(ScriptedSink):
        limits = BatchLimits(events=10, age=5.0)

    sink = Patient()
    delivery = run.delivery(sink)
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: sink.got)
        delivery.finish(None, anyio.current_time() + 10)

    assert 5.0 <= sink.times[0] - started <= 5.5
    assert "close finished" not in sink.calls


async def test_what_a_later_attempt_replaced_is_not_sent(write_run):
    """A resume at step 10 supersedes the earlier attempt's steps beyond it, and counts them."""
    write_run(20, ended=False)
    run = write_run(5, attempt=2, from_step=10)
    sink = ScriptedSink()
    account = await deliver(run.delivery(sink))

    assert sink.values == [*range(11), *range(5)]
    assert account.superseded == 9
    assert account.complete


async def test_what_a_later_attempt_replaced_does_not_wait(write_run):
    """After a resume at step 10 eleven records of the first attempt wait, and those of the next."""
    run = write_run(20, ended=False)
    first = LimitedSink([None, lambda _batch: anyio.sleep_forever()])
    killed = run.delivery(first)
    async with anyio.create_task_group() as group:
        group.start_soon(killed.run)
        await until(lambda: len(first.batches) >= 2)
        killed.abandon()
    write_run(5, attempt=2, from_step=12)
    down = ScriptedSink([UnavailableError("down")] * 100)
    waiting = await deliver(run.delivery(down), seconds=1)
    account = await deliver(run.delivery(sink := ScriptedSink()))

    assert (killed.account.pending, waiting.pending, waiting.complete) == (10, 3 + 5, False)
    assert sink.values == [10, 11, 12, *range(5)]
    assert (account.delivered, account.superseded, account.complete) == (18, 7, True)


async def test_what_was_replaced_is_counted_once(write_run):
    """Also when the batch around it comes again, from another process or in parts."""
    write_run(20, ended=False)
    run = write_run(5, attempt=2, from_step=4)
    for _ in range(3):
        sink = ScriptedSink([lambda _batch: anyio.sleep_forever()])
        killed = run.delivery(sink)
        async with anyio.create_task_group() as group:
            group.start_soon(killed.run)
            await until(lambda sink=sink: sink.batches)
            killed.abandon()
    account = await deliver(run.delivery(sink := ScriptedSink([RejectedError("some")])))

    assert sink.values == [*range(5), *range(5)]
    assert (account.delivered, account.superseded, account.dead) == (10, 15, 0)


async def test_ranks_are_batches_of_their_own(write_run):
    """A batch never mixes two ranks."""

    class OfAllRanks(LimitedSink):
        ranks = "all"

    write_run(15)
    run = write_run(15, rank=1)
    sink = OfAllRanks()
    await deliver(run.delivery(sink))

    assert sorted(sink.values) == sorted([*range(15), *range(15)])
    assert len(sink.batches) == 4


async def test_only_one_delivers(write_run):
    """A second one is refused; with take-over it goes on and the first finds out."""
    run = write_run(25)
    gate = anyio.Event()

    async def wait(_batch):
        await gate.wait()

    first, second = LimitedSink([None, wait]), LimitedSink()
    delivery = run.delivery(first)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: len(first.batches) >= 2)
        with pytest.raises(StillOwnedError, match="delivers to 'scripted'"):
            await run.delivery(LimitedSink(), patient=False).run()
        await deliver(run.delivery(second, take_over=True, patient=False))
        gate.set()
        delivery.finish("finished", anyio.current_time() + 10)

    assert second.values == list(range(10, 25))
    assert delivery.account.status == "ended"
    assert len(first.batches) == 2


async def test_a_stuck_process_is_taken_over_from(write_run):
    """Who goes on with the run waits a minute for the one before it, and no longer."""
    run = write_run(25)
    gate = anyio.Event()

    async def wait(_batch):
        await gate.wait()

    first, second = LimitedSink([None, wait]), LimitedSink()
    stuck, next_one = run.delivery(first), run.delivery(second)
    async with anyio.create_task_group() as group:
        group.start_soon(stuck.run)
        await until(lambda: len(first.batches) == 2)
        started = anyio.current_time()
        group.start_soon(next_one.run)
        await until(lambda: next_one.account.status == "waiting")
        await until(lambda: second.got)
        assert 60 <= anyio.current_time() - started < 65
        gate.set()
        for delivery in (stuck, next_one):
            delivery.finish("finished", anyio.current_time() + 10)

    assert second.values == list(range(10, 25))
    assert (stuck.account.status, next_one.account.status) == ("ended", "finished")


async def test_abandoning_ends_in_bounded_time(write_run):
    """Whatever it is at; the batch under way keeps its boundaries for whoever goes on."""
    run = write_run(25)
    sink = LimitedSink([None, lambda _batch: anyio.sleep_forever()])
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await until(lambda: len(sink.batches) >= 2)
        delivery.abandon()

    assert delivery.account.pending == 15
    again = LimitedSink()
    await deliver(run.delivery(again))
    assert again.batches[0] == sink.batches[1]
    assert again.values == list(range(10, 25))


async def test_a_damaged_cursor_begins_again(write_run):
    """Twice is better than not at all; what could not be read is kept."""
    run = write_run(5)
    await deliver(run.delivery(ScriptedSink()))
    path = run.dir / "cursors" / "scripted.json"
    path.write_bytes(path.read_bytes()[:40])
    sink = ScriptedSink()
    await deliver(run.delivery(sink))

    assert sink.values == list(range(5))
    assert len(list(path.parent.glob("scripted.damaged-*"))) == 1
