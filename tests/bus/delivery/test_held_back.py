"""A batch of which part has to wait grows meanwhile, so that the rest goes on; on virtual time."""

import anyio
import pytest

from bus import (
    Batch,
    BatchLimits,
    HeldBackError,
    UnavailableError,
    list_cursors,
)
from bus._lengthening import LONGEST
from tests.bus.delivery.conftest import ScriptedSink

pytestmark = pytest.mark.anyio

FIVE = BatchLimits(events=5, age=1.0)


class TwoKinds(ScriptedSink):
    """Even numbers are of one kind, odd ones of another, which waits until a time.

    What of a batch is there already stands in the state, as a sink has to do it.
    """

    limits = FIVE

    def __init__(self, waits_until=0.0, wish=None):
        super().__init__()
        self.waits_until = waits_until
        self.wish = wish
        self.even, self.odd = [], []

    async def write(self, batch: Batch, state):
        self.batches.append([record.seq for record in batch])
        done = state.get("even", 0)
        numbers = [(each.seq, each.event.metrics["n"]) for each in batch]
        self.even += [n for seq, n in numbers if n % 2 == 0 and seq > done]
        state = {"even": max(done, batch[-1].seq)}
        left = self.waits_until - anyio.current_time()
        if left > 0:
            await batch.commit(0, state)
            raise HeldBackError("no odd ones", retry_after=self.wish or left)
        self.odd += [n for _, n in numbers if n % 2]
        return state


async def deliver(delivery, seconds=10_000.0):
    delivery.finish("finished", anyio.current_time() + seconds)
    await delivery.run()
    return delivery.account


async def test_the_rest_goes_on(write_run):
    """All that is there, while the other kind waits; each thing arrives once and in order."""
    sink = TwoKinds(waits_until=anyio.current_time() + 60)
    account = await deliver(write_run(23).delivery(sink))

    firsts = [batch[0] for batch in sink.batches[:-1]]
    assert account.complete
    assert (account.delivered, account.pending) == (23, 0)
    assert sink.even == [*range(0, 23, 2)]
    assert sink.odd == [*range(1, 23, 2)]
    assert len(set(firsts)) == 1
    assert [len(batch) for batch in sink.batches[:5]] == [5, 10, 15, 20, 23]


async def test_while_the_run_lives_it_grows_as_batches_do(write_run):
    """By what is old enough, not by each record as it comes; nothing is busy meanwhile."""
    run = write_run(12, ended=False)
    sink = TwoKinds(waits_until=anyio.current_time() + 60)
    delivery = run.delivery(sink)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await anyio.sleep(30)
        assert sink.even == [*range(0, 12, 2)]
        assert sink.odd == []
        assert len(sink.batches) == 3
        assert list_cursors(run.dir)["scripted"].health.status == "backing off"
        await anyio.sleep(60)
        assert sink.odd == [*range(1, 12, 2)]
        delivery.finish("finished", anyio.current_time() + 10)
    assert delivery.account.complete


async def test_whoever_goes_on_is_given_the_same_batch(write_run):
    """As long as it had become, with the state that says what of it is there."""
    run = write_run(23)
    first = TwoKinds(waits_until=anyio.current_time() + 3600)
    account = await deliver(run.delivery(first), seconds=100.0)
    assert not account.complete
    assert (first.even, first.odd) == ([*range(0, 23, 2)], [])
    assert account.pending == 23

    second = TwoKinds()
    account = await deliver(run.delivery(second))
    assert account.complete
    assert second.batches[0] == first.batches[-1]
    assert (second.even, second.odd) == ([], [*range(1, 23, 2)])


async def test_it_does_not_grow_for_ever(write_run):
    """What is held in memory is bounded; behind that everything waits."""
    run = write_run(5 * (LONGEST + 10))
    sink = TwoKinds(waits_until=anyio.current_time() + 3600)
    account = await deliver(run.delivery(sink))

    assert account.complete
    assert max(map(len, sink.batches)) == 5 * (LONGEST + 1)
    assert sorted(sink.even + sink.odd) == [*range(5 * (LONGEST + 10))]


async def test_one_that_names_no_time_is_not_asked_at_once(write_run):
    """There is a pause between any two tries."""
    run = write_run(3)
    sink = ScriptedSink([HeldBackError("not now")] * 20)
    account = await deliver(run.delivery(sink))

    assert account.complete
    assert len(set(sink.times)) == 21


async def test_another_failure_meanwhile(write_run):
    """Is what it always is; the batch keeps its length."""
    run = write_run(23)

    class Five(ScriptedSink):
        limits = FIVE

    sink = Five([HeldBackError("a", retry_after=5), UnavailableError("down"), None])
    account = await deliver(run.delivery(sink))

    assert account.complete
    assert [len(batch) for batch in sink.batches] == [5, 10, 10, 5, 5, 3]
