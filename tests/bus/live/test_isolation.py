"""Whatever a subscriber does, it hurts neither the journal nor what another subscriber receives."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from threading import Event as Flag
from typing import NoReturn

import pytest

from bus import (
    AlertRaised,
    Bus,
    Control,
    Evaluated,
    Event,
    EventStream,
    MessageLogged,
    MetricsLogged,
    RunEnded,
    SubscriberFailed,
)
from bus._live import LiveLoop
from bus.testing import JournalAsserter, Recorder
from tests.waiting import HANG

Misbehave = Callable[[Bus, Flag], None]


class Unexpected(BaseException):
    """An exception that `except Exception` does not catch."""


class Unspeakable(Exception):  # noqa: N818 - it is no error of ours
    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")


def blocks(bus: Bus, release: Flag) -> None:
    @bus.on(MetricsLogged)
    async def blocks(_event: Event) -> None:
        release.wait()


def never_reads(bus: Bus, release: Flag) -> None:
    @bus.subscribe(MetricsLogged)
    async def never_reads(_events: EventStream[Event]) -> None:
        await asyncio.to_thread(release.wait)


def never_ends(bus: Bus, release: Flag) -> None:
    @bus.subscribe(MetricsLogged)
    async def never_ends(events: EventStream[Event]) -> None:
        async for _event in events:
            pass
        while not release.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)


def swallows_cancellation(bus: Bus, release: Flag) -> None:
    @bus.on(MetricsLogged)
    async def swallows_cancellation(_event: Event) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue


def floods(bus: Bus, _release: Flag) -> None:
    @bus.subscribe(MetricsLogged)
    async def floods(_events: EventStream[Event]) -> None:
        while True:
            bus.publish(MessageLogged(text="more"))
            await asyncio.sleep(0)


def answers_every_event_with_another(bus: Bus, _release: Flag) -> None:
    @bus.on(MetricsLogged, MessageLogged)
    async def answers_every_event_with_another(_event: Event) -> None:
        bus.publish(MessageLogged(text="and another"))


def raises(error: BaseException) -> Misbehave:
    def install(bus: Bus, _release: Flag) -> None:
        @bus.on(MetricsLogged)
        async def raises(_event: Event) -> None:
            raise error

    return install


def raises_at_once(bus: Bus, _release: Flag) -> None:
    @bus.subscribe(MetricsLogged)
    async def raises_at_once(_events: EventStream[Event]) -> None:
        raise ValueError("before the first event")


def raises_always_and_starts_again(bus: Bus, _release: Flag) -> None:
    @bus.subscribe(MetricsLogged, on_error="restart")
    async def raises_always_and_starts_again(events: EventStream[Event]) -> None:
        async for _event in events:
            raise ValueError("again")


def raises_in_its_predicate(bus: Bus, _release: Flag) -> None:
    def broken(_event: Event) -> NoReturn:
        raise SystemExit("in when")

    bus.subscribe(MetricsLogged, when=broken)(Recorder())

    @bus.on(MetricsLogged, when=broken)
    async def handler(_event: Event) -> None: ...


def leaks_tasks(bus: Bus, release: Flag) -> None:
    tasks = set()

    async def endless() -> None:
        while not release.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)

    async def fatal() -> None:
        raise SystemExit("from a leaked task")

    @bus.on(MetricsLogged)
    async def leaks_tasks(_event: Event) -> None:
        tasks.add(asyncio.create_task(endless()))
        tasks.add(asyncio.create_task(fatal()))


def stops_the_loop(bus: Bus, _release: Flag) -> None:
    @bus.on(MetricsLogged)
    async def stops_the_loop(_event: Event) -> None:
        asyncio.get_running_loop().stop()


def cancels_everybody(bus: Bus, _release: Flag) -> None:
    @bus.on(MetricsLogged, once=True)
    async def cancels_itself(_event: Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


def abandons_a_generator(bus: Bus, _release: Flag) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)

    @bus.on(MetricsLogged)
    async def abandons_a_generator(_event: Event) -> None:
        async for _number in numbers():
            break


HOLD_THE_LOOP = [blocks]
NEVER_END = [never_reads, never_ends, swallows_cancellation, floods]
FAIL = {
    "ValueError": raises(ValueError("no")),
    "SystemExit": raises(SystemExit(3)),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "BaseException": raises(Unexpected("no")),
    "CancelledError": raises(asyncio.CancelledError()),
    "GeneratorExit": raises(GeneratorExit()),
    "StopAsyncIteration": raises(StopAsyncIteration()),
    "error without words": raises(Unspeakable()),
    "at once": raises_at_once,
    "always": raises_always_and_starts_again,
    "predicate": raises_in_its_predicate,
}
OTHERS = [
    leaks_tasks,
    stops_the_loop,
    cancels_everybody,
    abandons_a_generator,
    answers_every_event_with_another,
]
EVERYBODY = [
    *(pytest.param(each, id=each.__name__) for each in HOLD_THE_LOOP + NEVER_END + OTHERS),
    *(pytest.param(each, id=name) for name, each in FAIL.items()),
]


@pytest.mark.parametrize("misbehave", EVERYBODY)
def test_journal_and_neighbours_get_everything(
    *, bus, journal, publish, release, eventually, misbehave: Misbehave
):
    """The journal is complete before the nuisance ends; a neighbour then receives it all too."""
    before, after = Recorder(), Recorder()
    bus.subscribe(MetricsLogged, name="before")(before)
    misbehave(bus, release)
    bus.subscribe(MetricsLogged, name="after")(after)
    publish(300)
    eventually(lambda: journal.values() == list(range(300)))

    release.set()
    eventually(lambda: len(before.events) == len(after.events) == 300)
    assert before.metrics("n") == after.metrics("n") == list(range(300))
    for name in ("before", "after"):
        account = bus.statistics().subscribers[name]
        assert (account.offered, account.delivered, account.dropped) == (300, 300, {})
    assert bus.statistics().dropped == {}


def test_a_burst_pushes_nothing_out_of_the_queue(make_bus, eventually):
    """A subscriber that publishes faster than is written waits for the writer."""
    bus = make_bus(queue_events=2048)

    @bus.on(MetricsLogged)
    async def bursts(_event: Event) -> None:
        for _ in range(20_000):
            bus.publish(MessageLogged(text="more"))

    bus.publish(MetricsLogged(step=0, metrics={"n": 0.0}))
    eventually(lambda: bus.statistics().journalled + bus.statistics().dropped_count >= 20_001)
    assert bus.statistics().dropped == {}


@pytest.mark.parametrize("misbehave", EVERYBODY)
def test_closing_stays_within_its_budget(bus, journal, publish, release, misbehave: Misbehave):
    """Closing returns in time, everything published is written, RunEnded comes last."""
    misbehave(bus, release)
    publish(50)
    started = time.monotonic()
    account = bus.close(0.9, last=lambda: RunEnded(outcome="finished"))

    assert time.monotonic() - started < HANG
    assert account.written
    assert journal.values() == list(range(50))
    JournalAsserter(journal.run_dir).complete().ends("finished")
    expected = {each.__name__ for each in HOLD_THE_LOOP + NEVER_END if each is misbehave}
    assert set(account.abandoned) == expected


@pytest.mark.parametrize("misbehave", FAIL.values(), ids=FAIL)
def test_failing_does_not_delay_closing(bus, publish, release, misbehave: Misbehave):
    """Closing does not wait for a subscriber that would pause before it starts again."""
    misbehave(bus, release)
    publish(50)
    bus.flush()
    assert bus.close(2 * HANG).seconds < HANG


class TestFailures:
    @pytest.mark.parametrize("failing", [each for each in FAIL if each != "at once"])
    def test_the_first_is_logged_with_its_traceback_and_journalled(
        self, *, bus, journal, publish, release, caplog, failing
    ):
        """One record in the log and one event per subscriber, however often it fails."""
        FAIL[failing](bus, release)
        publish(20)
        bus.flush()
        bus.close(10)

        names = set(bus.statistics().subscribers)
        errors = [r for r in caplog.records if r.levelno >= logging.ERROR and r.name == "bus"]
        assert len(errors) == len(names)
        assert all(record.exc_info for record in errors)
        assert {event.subscriber for event in journal.of(SubscriberFailed)} == names
        assert len(journal.of(SubscriberFailed)) == len(names)

    def test_a_handler_goes_on_and_failures_are_counted(self, bus, journal, publish):
        """Each event is handled, whatever became of the one before."""
        handled = []

        @bus.on(MetricsLogged)
        async def picky(event: MetricsLogged) -> None:
            handled.append(event.step)
            if event.step % 2:
                raise ValueError(f"step {event.step} is odd")

        publish(10)
        bus.close(10)
        assert handled == list(range(10))
        assert bus.statistics().subscribers["picky"].failures == 5
        [failure] = journal.of(SubscriberFailed)
        assert (failure.error, failure.retired) == ("ValueError: step 1 is odd", False)

    def test_a_predicate_that_fails_skips_its_event(self, bus, publish):
        """A handler sees every event on which its predicate did not fail, without any pause."""
        seen = []

        @bus.on(MetricsLogged, when=lambda event: 1 / (event.step % 2))
        async def odd(event: MetricsLogged) -> None:
            seen.append(event.step)

        publish(100)
        bus.close(10)
        account = bus.statistics().subscribers["odd"]
        assert seen == list(range(1, 100, 2))
        assert (account.delivered, account.skipped, account.failures) == (50, 50, 50)

    def test_a_stream_that_retires_leaves_its_backlog_counted(self, bus, journal, publish):
        """By default a stream that raises is over; what it had not read is dropped by name."""
        started = []

        @bus.subscribe(MetricsLogged)
        async def fragile(events: EventStream[MetricsLogged]) -> None:
            started.append(True)
            async for event in events:
                if event.step == 4:
                    raise ValueError("enough")

        publish(10)
        bus.close(10)
        account = bus.statistics().subscribers["fragile"]
        assert len(started) == 1
        assert (account.delivered, account.failures, account.pending) == (5, 1, 0)
        assert account.offered == 5 + sum(account.dropped.values())
        assert [event.retired for event in journal.of(SubscriberFailed)] == [True]

    def test_a_stream_that_restarts_goes_on_where_it_was(self, bus, journal, publish, eventually):
        """With on_error="restart" it is called again, and only the event that failed is gone."""
        seen = []

        @bus.subscribe(MetricsLogged, on_error="restart")
        async def stubborn(events: EventStream[MetricsLogged]) -> None:
            async for event in events:
                if event.step == 4:
                    raise ValueError("not this one")
                seen.append(event.step)

        publish(10)
        eventually(lambda: len(seen) == 9)
        bus.close(10)
        assert seen == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert bus.statistics().subscribers["stubborn"].failures == 1
        assert [event.retired for event in journal.of(SubscriberFailed)] == [False]

    def test_cancelling_itself_counts_as_a_failure(self, bus, publish, journal, eventually):
        """A subscriber that vanishes without the run having ended did not just finish."""

        @bus.subscribe(MetricsLogged)
        async def vanishes(events: EventStream[MetricsLogged]) -> None:
            async for _event in events:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

        publish(3)
        eventually(lambda: journal.of(SubscriberFailed))
        [failure] = journal.of(SubscriberFailed)
        assert (failure.subscriber, failure.retired) == ("vanishes", True)

    def test_a_long_message_is_cut(self, bus, publish, journal, eventually):
        """A megabyte of error text does not become a line of the journal."""
        raises(ValueError("x" * 1_000_000))(bus, Flag())
        publish(1)
        eventually(lambda: journal.of(SubscriberFailed))
        assert len(journal.of(SubscriberFailed)[0].error) <= 2000


class TestBlockers:
    def test_who_blocks_is_named_where_it_blocks(self, bus, publish, release, eventually, caplog):
        """Statistics and one warning say who holds the loop, in which file, line and function."""
        blocks(bus, release)
        publish(1)
        eventually(lambda: "blocks" in bus.statistics().blockers)
        where, seconds = bus.statistics().blockers["blocks"]
        assert seconds >= 0.1
        assert ":" in where.rsplit(" in ", 1)[0]
        eventually(lambda: bus.statistics().blockers["blocks"][1] > seconds)
        assert bus.statistics().subscribers["blocks"].blocked_seconds >= seconds
        release.set()
        bus.close(5)
        warnings = [r.getMessage() for r in caplog.records if "held the event loop" in r.msg]
        assert len(warnings) == 1
        assert "'blocks'" in warnings[0]

    def test_the_line_is_the_users(self, bus, publish, eventually):
        """A plain time.sleep is found in the file and function that calls it."""

        @bus.on(MetricsLogged)
        async def dozes(_event: Event) -> None:
            time.sleep(0.4)  # noqa: ASYNC251 - blocking is what this test is about

        publish(1)
        eventually(lambda: "dozes" in bus.statistics().blockers)
        where, _ = bus.statistics().blockers["dozes"]
        assert where.startswith(f"{__file__}:")
        assert where.endswith(" in dozes")

    def test_a_decider_that_blocks_is_named_too(self, bus, release, eventually):
        """Deciders share the loop, so they are watched like everybody."""

        @bus.decider(Evaluated, deadline=0.3)
        async def hasty(_event: Evaluated) -> None:
            release.wait()

        bus.publish(Evaluated(metrics={}))
        eventually(lambda: "hasty" in bus.statistics().blockers)

    def test_nobody_is_named_for_time_that_the_machine_took(self, release, eventually):
        """Only what passed while the watching thread itself was on time counts."""
        live = LiveLoop(Control([].append), [].append)
        held = Flag()

        async def holds() -> None:
            held.set()
            release.wait()

        live.start_task("holds", holds)
        assert held.wait(HANG)
        live.watch(0.0)
        for _ in range(1000):
            live.watch(0.0)  # as if each look came late
        assert live.blockers == {}
        eventually(lambda: live.watch(1.0) or live.blockers)
        assert live.blockers["holds"].seconds > 0.1
        release.set()
        assert live.finish(time.monotonic() + HANG) == []

    def test_nobody_is_named_when_nobody_blocks(self, bus, publish, caplog):
        """Waiting is not blocking."""

        @bus.on(MetricsLogged)
        async def polite(_event: Event) -> None:
            await asyncio.sleep(0.01)

        publish(20)
        bus.close(10)
        assert bus.statistics().blockers == {}
        assert not caplog.records


def test_urgent_events_are_written_at_once_beside_a_blocker(make_bus, journal, release, eventually):
    """The journal's lag does not depend on the loop: an alert is there before the next flush."""
    bus = make_bus(flush_interval=60)
    blocks(bus, release)
    bus.publish(MetricsLogged(metrics={}))
    bus.publish(AlertRaised(title="look"))
    eventually(lambda: journal.of(AlertRaised), seconds=5)
    assert bus.statistics().lag_seconds < HANG
