"""Whatever is offered and however it is read: each event is accounted for, none out of order."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import Bus, Evaluated, Event, MetricsLogged
from bus._subscription import EventStream, Filter, Overflow, Subscription
from bus.testing import Recorder


class Sized(Event):
    """An abstract event of this module."""

    size: int


class Small(Sized):
    type: Literal["live_property_small"] = "live_property_small"


class Large(Sized):
    type: Literal["live_property_large"] = "live_property_large"


STEPS = st.none() | st.integers(0, 12)
EVENTS = st.lists(
    st.one_of(
        st.builds(MetricsLogged, step=STEPS, metrics=st.just({"loss": 1.0})),
        st.builds(Evaluated, step=STEPS, metrics=st.just({"loss": 1.0})),
        st.builds(Small, step=STEPS, size=st.integers(0, 9)),
        st.builds(Large, step=STEPS, size=st.integers(0, 9)),
    ),
    max_size=40,
)
LIMITS = st.none() | st.integers(0, 12)


def is_even(event: Event) -> bool:
    return int(event.time * 1e6) % 2 == 0


FILTERS = st.builds(
    Filter,
    types=st.sampled_from(
        [
            (Event,),
            (Sized,),
            (Small,),
            (MetricsLogged, Evaluated),
            (Small, Event),
        ]
    ),
    when=st.none() | st.just(is_even),
    every=st.integers(1, 5),
    once=st.booleans(),
    before=LIMITS,
    after=LIMITS,
)


def chosen(events: list[Event], condition: Filter) -> list[Event]:
    """What a subscriber should see, one condition after the other."""
    passed = [event for event in events if isinstance(event, condition.types)]
    if condition.before is not None:
        passed = [e for e in passed if e.step is not None and e.step < condition.before]
    if condition.after is not None:
        passed = [e for e in passed if e.step is not None and e.step > condition.after]
    if condition.when is not None:
        passed = [event for event in passed if condition.when(event)]
    passed = passed[condition.every - 1 :: condition.every]
    return passed[:1] if condition.once else passed


def balanced(each: Subscription) -> bool:
    settled = each.delivered + each.skipped + sum(each.dropped.values())
    return each.offered == settled + each.pending


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, condition=FILTERS)
def test_filters_together_select_what_a_plain_list_would(events: list[Event], condition: Filter):
    """Types, range, predicate, every and once combine in this order, in either form."""
    bus = Bus(None)
    streamed, handled = Recorder(), list[Event]()
    options = {
        "when": condition.when,
        "every": condition.every,
        "once": condition.once,
        "before": condition.before,
        "after": condition.after,
    }
    bus.subscribe(*condition.types, name="stream", **options)(streamed)

    @bus.on(*condition.types, name="handler", **options)
    async def handle(event: Event) -> None:
        handled.append(event)

    for event in events:
        bus.publish(event)
    account = bus.close(10)

    expected = chosen(events, condition)
    assert streamed.events == handled == expected
    assert streamed.ended
    assert not account.unread
    for each in bus.statistics().subscribers.values():
        assert each.delivered == len(expected)
        assert each.offered == each.delivered + each.skipped + sum(each.dropped.values())
        assert set(each.dropped) <= {"subscriber finished"}


class Buffer:
    """A naive model of a bounded buffer."""

    def __init__(self, size: int, overflow: Overflow) -> None:
        self.held: list[Event] = []
        self.lost: list[Event] = []
        self._size = 1 if overflow == "latest" else size
        self._newest = overflow == "drop_newest"

    def offer(self, event: Event) -> None:
        self.held.append(event)
        if len(self.held) > self._size:
            self.lost.append(self.held.pop(-1 if self._newest else 0))


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@settings(max_examples=150, deadline=None)
@given(
    operations=st.lists(st.sampled_from(["offer", "offer", "read"]), max_size=60),
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "latest"]),
    size=st.integers(1, 5),
    ending=st.sampled_from(["end", "retire", "neither"]),
)
def test_every_policy_balances_after_each_step(
    operations: list[str], overflow: Overflow, size: int, ending: str
):
    """Offers and reads in any order do what a list of bounded length would do."""

    async def play() -> None:
        subscription = Subscription("s", Filter((Event,)), buffer=size, overflow=overflow)
        stream, model = EventStream[Event](subscription), Buffer(size, overflow)
        steps = itertools.count()
        for operation in operations:
            if operation == "offer":
                event = MetricsLogged(step=next(steps), metrics={})
                model.offer(event)
                assert subscription.offer(event)
                subscription.wake()
            elif model.held:
                assert await anext(stream) is model.held.pop(0)
            assert balanced(subscription)
            assert subscription.pending == stream.pending == len(model.held)
            assert sum(subscription.dropped.values()) == len(model.lost)
        if ending == "end":
            subscription.end()
            assert [event async for event in stream] == model.held
        elif ending == "retire":
            subscription.retire("over")
            assert subscription.dropped["over"] == len(model.held)
            assert not subscription.offer(MetricsLogged(metrics={}))
        assert balanced(subscription)

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(
    bursts=st.lists(st.integers(0, 6), max_size=15),
    condition=FILTERS,
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "latest"]),
    size=st.integers(1, 5),
)
def test_a_reader_that_waits_keeps_order_and_balance(
    bursts: list[int], condition: Filter, overflow: Overflow, size: int
):
    """Bursts while the reader waits, filters included: delivered is a subsequence of offered."""

    def events() -> Iterator[Event]:
        for step in itertools.count():
            yield Small(step=step, size=step) if step % 2 else MetricsLogged(step=step, metrics={})

    async def play() -> None:
        subscription = Subscription("s", condition, buffer=size, overflow=overflow)
        read: list[Event] = []

        async def reader() -> None:
            read.extend([event async for event in EventStream[Event](subscription)])

        task = asyncio.create_task(reader())
        source, offered = events(), list[Event]()
        for burst in bursts:
            for event in itertools.islice(source, burst):
                if isinstance(event, condition.types) and subscription.offer(event):
                    offered.append(event)
            subscription.wake()
            await settle()
            assert balanced(subscription)
        subscription.end()
        await task
        assert balanced(subscription)
        assert subscription.offered == len(offered)
        remaining = iter(offered)
        assert all(any(event is each for each in remaining) for event in read)

    asyncio.run(play())


@pytest.mark.parametrize("overflow", ["latest", "drop_oldest", "drop_newest"])
def test_a_writer_and_a_reader_on_two_threads_agree(overflow: Overflow):
    """With one place in the buffer both sides take from it at once, and still nothing is lost."""
    subscription = Subscription("s", Filter((Event,)), buffer=1, overflow=overflow)
    events = [MetricsLogged(step=step, metrics={}) for step in range(20_000)]
    read: list[int] = []

    async def serve() -> None:
        loop, offered = asyncio.get_running_loop(), asyncio.Event()

        def offer() -> None:
            for event in events:
                subscription.offer(event)
                loop.call_soon_threadsafe(subscription.wake)
            loop.call_soon_threadsafe(offered.set)

        async def reader() -> None:
            read.extend([e.step or 0 async for e in EventStream[Event](subscription)])

        writer = threading.Thread(target=offer)
        writer.start()
        task = asyncio.create_task(reader())
        await offered.wait()
        subscription.end()
        await task
        writer.join()

    asyncio.run(serve())
    assert balanced(subscription)
    assert subscription.offered == len(events)
    assert subscription.pending == 0
    assert len(read) == subscription.delivered
    assert read == sorted(set(read))
