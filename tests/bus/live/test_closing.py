"""Closing has one budget, loses nothing uncounted, and RunEnded is the journal's last word."""

import asyncio
import threading
import time

import pytest

from bus import (
    AlertRaised,
    Bus,
    Event,
    EventStream,
    MetricsLogged,
    RunEnded,
    Stop,
    SummaryLogged,
)
from bus.testing import JournalAsserter, Recorder
from tests.waiting import HANG


def ending() -> Event:
    return RunEnded(outcome="finished")


class TestAccount:
    def test_a_clean_end_has_nothing_to_report(self, bus, publish):
        """Everything written, everything read, nobody left behind."""
        bus.subscribe(MetricsLogged)(Recorder())
        publish(100)
        account = bus.close(10, last=ending)
        assert account.written
        assert (account.unwritten, account.unread, account.abandoned) == (0, {}, ())
        assert 0 < account.seconds < 10

    def test_a_bus_without_subscribers_starts_no_loop(self, make_bus):
        """The loop thread exists only when somebody subscribed."""
        before = {thread.name for thread in threading.enumerate()}
        bus = make_bus(remembers=False)
        bus.publish(MetricsLogged(metrics={}))
        assert "hotloop-live" not in {thread.name for thread in threading.enumerate()} - before
        assert bus.close(5, last=ending).written

    def test_both_threads_are_gone_afterwards(self, make_bus):
        """A closed bus holds no thread."""
        before = set(threading.enumerate())
        bus = make_bus()
        bus.subscribe(MetricsLogged)(Recorder())
        assert {thread.name for thread in set(threading.enumerate()) - before} == {
            "hotloop-writer",
            "hotloop-live",
        }
        bus.close(10)
        assert set(threading.enumerate()) <= before

    def test_what_was_not_read_is_counted_by_subscriber(self, bus, publish, release, journal):
        """A reader that stands still leaves a count; the events are in the journal."""

        @bus.on(MetricsLogged)
        async def slow(_event: MetricsLogged) -> None:
            await asyncio.to_thread(release.wait)

        publish(10)
        account = bus.close(0.9, last=ending)
        assert account.unread == {"slow": 9}
        assert account.abandoned == ("slow",)
        assert len(journal.of(MetricsLogged)) == 10
        each = bus.statistics().subscribers["slow"]
        assert (each.offered, each.delivered, each.pending) == (10, 1, 0)
        assert sum(each.dropped.values()) == 9

    def test_a_stalled_disk_is_reported(self, make_bus, tmp_path):
        """What could not be written is counted, and closing still ends in time."""
        (tmp_path / "run").write_text("a file where the folder belongs")
        bus = make_bus()
        for _ in range(5):
            bus.publish(MetricsLogged(metrics={}))
        account = bus.close(1)
        assert not account.written
        assert account.unwritten == 5
        assert account.seconds < HANG

    def test_without_any_time_it_still_ends(self, bus, publish):
        """A budget of zero is a legal wish."""
        bus.subscribe(MetricsLogged)(Recorder())
        publish(10)
        assert bus.close(0, last=ending).seconds < HANG


class TestLastEvent:
    def test_subscribers_see_it_and_then_their_end(self, bus, journal):
        """RunEnded reaches who asked for it, as the last event of the stream."""
        recorder = Recorder()
        bus.subscribe(Event)(recorder)
        bus.publish(MetricsLogged(metrics={}))
        bus.close(10, last=ending)
        assert [type(event) for event in recorder.events] == [MetricsLogged, RunEnded]
        assert recorder.ended
        JournalAsserter(journal.run_dir).complete().ends("finished")

    def test_it_stays_last_whatever_is_published_then(self, bus, journal):
        """Late events are counted as dropped instead of following the end."""

        @bus.on(RunEnded)
        async def talkative(_event: RunEnded) -> None:
            bus.publish(AlertRaised(title="one more thing"))
            raise ValueError("and a failure")

        bus.close(10, last=ending)
        bus.publish(MetricsLogged(metrics={}))
        JournalAsserter(journal.run_dir).complete().ends("finished")
        assert bus.statistics().dropped == {"published after the end of the run": 3}

    @pytest.mark.parametrize("durability", ["interval", "write"])
    def test_it_stays_last_while_other_threads_publish(self, make_bus, journal, durability):
        """Threads that never stop publishing find the door closed; what was inside is written."""
        bus = make_bus(durability=durability)
        stop, started = threading.Event(), threading.Barrier(4)
        published = []

        def publish() -> None:
            started.wait()
            while not stop.wait(0.0001):  # the pace of a busy program
                for _ in range(5):
                    bus.publish(AlertRaised(title="again"))
                published.append(5)

        threads = [threading.Thread(target=publish) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        account = bus.close(3, last=ending)
        stop.set()
        for thread in threads:
            thread.join()
        assert account.written
        checked = JournalAsserter(journal.run_dir).complete().ends("finished")
        late = bus.statistics().dropped.get("published after the end of the run", 0)
        assert len(checked.of(AlertRaised)) + late == sum(published)
        assert bus.statistics().published >= sum(published)

    def test_its_statistics_describe_everything_before_it(self, bus, journal, publish):
        """It is made when all else has been written."""
        publish(40)
        bus.close(
            10,
            last=lambda: RunEnded(outcome="finished", statistics=bus.statistics().as_metrics()),
        )
        [ended] = journal.of(RunEnded)
        assert ended.statistics["published"] == ended.statistics["journalled"] == 40
        assert ended.statistics["dropped"] == 0


class TestSubscribersWhileClosing:
    def test_what_they_publish_over_their_backlog_is_kept(self, bus, journal, publish):
        """Closing waits until nothing moves, also along a chain of subscribers."""
        seen = Recorder()

        @bus.on(MetricsLogged)
        async def summarise(event: MetricsLogged) -> None:
            await asyncio.sleep(0)
            bus.publish(SummaryLogged(values={"n": event.step}))

        @bus.on(SummaryLogged)
        async def announce(event: SummaryLogged) -> None:
            bus.publish(AlertRaised(title=str(event.values["n"])))

        bus.subscribe(AlertRaised)(seen)
        publish(100)
        bus.close(20, last=ending)

        assert len(journal.of(SummaryLogged)) == len(journal.of(AlertRaised)) == 100
        assert [event.title for event in seen.of(AlertRaised)] == [str(n) for n in range(100)]
        JournalAsserter(journal.run_dir).complete().ends("finished")

    def test_what_they_publish_after_their_stream_is_kept(self, bus, journal, publish):
        """A summary after the loop over events belongs to the run."""

        @bus.subscribe(MetricsLogged)
        async def totals(events: EventStream[MetricsLogged]) -> None:
            total = 0.0
            async for event in events:
                total += event.metrics["n"]
            await asyncio.sleep(0.01)
            bus.publish(SummaryLogged(values={"total": total}))

        publish(10)
        account = bus.close(20, last=ending)
        assert account.abandoned == ()
        [summary] = journal.of(SummaryLogged)
        assert summary.values == {"total": 45}
        JournalAsserter(journal.run_dir).complete().ends("finished")

    def test_a_subscriber_may_take_its_time_within_the_budget(self, bus, publish):
        """A slow reader that makes progress is waited for."""
        seen = []

        @bus.on(MetricsLogged)
        async def slow(event: MetricsLogged) -> None:
            await asyncio.sleep(0.02)
            seen.append(event.step)

        publish(20)
        account = bus.close(15)
        assert len(seen) == 20
        assert not account.abandoned

    def test_a_subscriber_may_close(self, bus, journal, publish, eventually):
        """Closing from inside writes everything, and the others still get to their end."""
        others = Recorder()
        accounts = []

        @bus.on(AlertRaised)
        async def closes(_event: AlertRaised) -> None:
            accounts.append(bus.close(10, last=ending))

        bus.subscribe(MetricsLogged, RunEnded)(others)
        publish(50)
        bus.publish(AlertRaised(title="enough"))
        eventually(lambda: others.ended)
        eventually(lambda: not [t for t in threading.enumerate() if t.name == "hotloop-live"])
        assert accounts[0].written
        assert accounts[0].abandoned == ()
        assert others.metrics("n") == list(range(50))
        assert len(others.of(RunEnded)) == 1
        JournalAsserter(journal.run_dir).complete().ends("finished")

    def test_what_is_left_behind_may_fail_at_its_end(self, bus, caplog):
        """It is logged, and what else is left behind still has its last word."""
        words, left = [], []

        async def fatal():
            try:
                await asyncio.sleep(3600)
            finally:
                raise SystemExit("at the very end")

        async def numbers():
            try:
                yield 1
            finally:
                words.append("closed")

        @bus.on(AlertRaised)
        async def leaves(_event: AlertRaised) -> None:
            left.append(asyncio.create_task(fatal()))
            left.append(numbers())
            await anext(left[1])

        bus.publish(AlertRaised(title="begin"))
        assert bus.close(10, last=ending).written
        for thread in [t for t in threading.enumerate() if t.name == "hotloop-live"]:
            thread.join(10)
        assert words == ["closed"]
        assert "something that a subscriber left behind raised when it was ended" in caplog.text

    def test_a_decider_may_close(self, bus, journal):
        """The thread that waits for it goes on, and the run is over."""

        @bus.decider(AlertRaised, deadline=30)
        async def closes(_event: AlertRaised) -> None:
            bus.close(10, last=ending)

        bus.publish(AlertRaised(title="enough"))
        assert bus.control.request(Stop()).wait(0).why == "the run ended"
        JournalAsserter(journal.run_dir).complete().ends("finished")


class TestTwice:
    def test_the_second_time_nothing_happens(self, bus, journal, publish):
        """Closing again returns at once and writes nothing."""
        publish(3)
        bus.close(10, last=ending)
        again = bus.close(10, last=ending)
        assert (again.written, again.unwritten, again.seconds) == (True, 0, 0.0)
        assert len(journal.of(RunEnded)) == 1

    def test_from_two_threads_at_once(self, bus, journal, publish):
        """One of them closes."""
        publish(3)
        barrier = threading.Barrier(4)

        def close(each: Bus) -> None:
            barrier.wait()
            each.close(10, last=ending)

        threads = [threading.Thread(target=close, args=(bus,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        JournalAsserter(journal.run_dir).complete().ends("finished").has(RunEnded, count=1)


def test_many_buses_close_fast(make_bus):
    """An end with nothing to wait for takes milliseconds, subscribers or not."""
    started = time.monotonic()
    for _ in range(20):
        bus = make_bus()
        bus.subscribe(MetricsLogged)(Recorder())
        bus.publish(MetricsLogged(metrics={}))
        bus.close(2 * HANG, last=ending)
    assert time.monotonic() - started < HANG
