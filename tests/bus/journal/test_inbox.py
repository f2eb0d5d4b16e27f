"""The inbox: every item offered is taken, dropped with a count, or still pending."""

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import AlertRaised, ArtifactReady, Bus, BusOptions, MetricsLogged, TextLogged
from bus._inbox import Inbox, draft_size
from bus.testing import JournalAsserter

HEAVY = "x" * 5000


def put_one(inbox: Inbox, thread: int, index: int) -> int:
    """Offer one item of each kind in turn; its time tells the thread, its step the index."""
    kind = index % 5
    time = float(thread)
    if kind == 0:
        return inbox.put_event(TextLogged(key="k", text=HEAVY, time=time, step=index))
    if kind == 1:
        artifact = ArtifactReady(path="p", kind="k", name="n", time=time, step=index)
        return inbox.put_event(artifact)
    if kind == 2:
        metrics = {f"m{number}": 1.0 for number in range(70)}
        return inbox.put_heavy((time, index, metrics), draft_size(metrics))
    if kind == 3:
        return inbox.put_event(AlertRaised(title="t", time=time, step=index))
    return inbox.put((time, index, {"loss": 1.0}))


class Taker:
    """The writer's part: takes until told to stop, then what is left."""

    def __init__(self, inbox: Inbox) -> None:
        self.items: list[tuple[int, object]] = []
        self.lost: Counter[str] = Counter()
        self._inbox = inbox
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._inbox.wake.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._inbox.wake.wait(0.01)
            self._take()

    def _take(self) -> None:
        while items := self._inbox.take(16):
            self.items += items
        for loss in self._inbox.take_losses():
            self.lost[loss.reason] += loss.count


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads that give way a thousand times as often as usual, to meet in the middle of things."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def interruptions() -> Iterator[Callable[[Callable[[], object]], threading.Event]]:
    """Have a signal handler run something in the main thread, thousands of times a second."""
    stop = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    before = signal.getsignal(signal.SIGUSR1)
    # What measures coverage takes a lock in Python at every call: a handler that runs inside it and
    # waits for another thread, which needs that lock too, would wait for ever.
    tracer = sys.gettrace()
    sys.settrace(None)

    def send() -> None:
        while not stop.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            stop.wait(0.0001)

    thread = threading.Thread(target=send)
    inside: list[None] = []

    def start(action: Callable[[], object]) -> threading.Event:
        def handle(*_: object) -> None:
            if len(inside) < 3:  # handlers interrupt each other, too, but not without end
                inside.append(None)
                action()
                inside.pop()

        signal.signal(signal.SIGUSR1, handle)
        thread.start()
        return stop

    yield start
    stop.set()
    if thread.is_alive():
        thread.join()
    signal.signal(signal.SIGUSR1, before)
    sys.settrace(tracer)


@pytest.mark.parametrize("on_full", ["drop_oldest", "block"])
@pytest.mark.parametrize(("max_events", "max_bytes"), [(1, 1), (7, 20_000), (100_000, 1 << 30)])
@pytest.mark.usefixtures("many_switches")
class TestThreads:
    """Several threads publish at once while the writer takes."""

    def test_account(self, on_full, max_events, max_bytes, soak):
        """Everything offered is taken or dropped with a count; blocking drops nothing."""
        inbox = Inbox(max_events=max_events, max_bytes=max_bytes, on_full=on_full)
        count, threads = 150 * soak, 4
        with Taker(inbox) as taker, ThreadPoolExecutor(threads) as pool:
            numbers = list(
                pool.map(
                    lambda thread: [put_one(inbox, thread, i) for i in range(count)],
                    range(threads),
                )
            )

        assert inbox.offered == count * threads
        assert inbox.pending == 0
        assert inbox.taken == len(taker.items)
        assert inbox.taken + taker.lost.total() == count * threads
        assert set(taker.lost) <= ({"queue full"} if on_full == "drop_oldest" else set())
        flat = [number for each in numbers for number in each]
        assert sorted(flat) == list(range(1, count * threads + 1))
        assert all(each == sorted(each) for each in numbers)

    def test_lifecycle_events_are_never_dropped(self, on_full, max_events, max_bytes, soak):
        """Whatever else is lost, each lifecycle event of each thread arrives, in its order."""
        inbox = Inbox(max_events=max_events, max_bytes=max_bytes, on_full=on_full)
        count, threads = 100 * soak, 3
        with Taker(inbox) as taker, ThreadPoolExecutor(threads) as pool:
            list(
                pool.map(
                    lambda thread: [put_one(inbox, thread, i) for i in range(count)],
                    range(threads),
                )
            )

        arrived = [item for _, item in taker.items if isinstance(item, ArtifactReady)]
        for thread in range(threads):
            steps = [event.step for event in arrived if event.time == thread]
            assert steps == [i for i in range(count) if i % 5 == 1]


@pytest.mark.parametrize("on_full", ["drop_oldest", "block"])
@pytest.mark.parametrize(("max_events", "max_bytes"), [(2, 6000), (100_000, 1 << 30)])
class TestSignalHandlers:
    """A signal handler publishes in the thread that it interrupts in the middle of publishing."""

    def test_account(self, on_full, max_events, max_bytes, interruptions, soak):
        """No handler waits for the call that it interrupted, and nothing is lost uncounted."""
        inbox = Inbox(max_events=max_events, max_bytes=max_bytes, on_full=on_full)
        handled = iter(range(1_000_000_000))
        count = 1500 * soak
        with Taker(inbox) as taker:
            stop = interruptions(lambda: put_one(inbox, 1, next(handled)))
            for index in range(count):
                put_one(inbox, 0, index)
            stop.set()
            # The handler's last call has returned once this thread has run on without it.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            by_handler = next(handled)

        assert by_handler > 0
        assert inbox.offered == count + by_handler
        assert inbox.pending == 0
        assert inbox.taken + taker.lost.total() == count + by_handler
        if on_full == "block":
            assert not taker.lost


@pytest.mark.parametrize("durability", ["interval", "write"])
def test_signal_handler_publishes_while_its_thread_writes(
    tmp_path, interruptions, soak, durability
):
    """Also in the middle of a flush or of a write: every event is in the journal once."""
    options = BusOptions(durability=durability, flush_interval=0.01, on_full="block")
    bus = Bus(tmp_path / "journal", options=options)
    handled = iter(range(1_000_000_000))
    count = 1000 * soak

    def handle() -> None:
        bus.publish(AlertRaised(title="t", step=next(handled)))

    stop = interruptions(handle)
    for step in range(count):
        bus.publish_metrics((1.0, step, {"loss": 1.0}))
        if step % 5 == 0:
            bus.flush(0.05)
    stop.set()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    by_handler = next(handled)
    bus.close(10)

    asserter = JournalAsserter(tmp_path).complete()
    assert [event.step for event in asserter.of(MetricsLogged)] == list(range(count))
    alerts = [event.step for event in asserter.of(AlertRaised)]
    assert sorted(alerts, key=lambda step: step or 0) == list(range(by_handler))


class TestBounds:
    """What may wait is bounded in number and, for heavy items, in bytes."""

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(0, 30_000)), max_size=60),
        st.integers(1, 10),
        st.integers(1, 40_000),
    )
    def test_oldest_make_room(self, items, max_events, max_bytes):
        """The newest items that fit are what waits; every other is counted."""
        inbox = Inbox(max_events=max_events, max_bytes=max_bytes, on_full="drop_oldest")
        taken: list[int] = []
        offered = 0
        for take, size in items:
            if take:
                taken += [number for number, _ in inbox.take(1)]
                continue
            inbox.put_event(TextLogged(key="", text="x" * size))
            offered += 1
            assert inbox.pending <= max_events

        kept = [item for _, item in inbox.take(1000)]
        heavy = [event.text for event in kept if len(event.text) > 4096]
        assert len(heavy) <= 1 or sum(map(len, heavy)) <= max_bytes
        dropped = sum(loss.count for loss in inbox.take_losses())
        assert len(taken) + len(kept) + dropped == offered == inbox.offered

    def test_weight_is_given_back(self):
        """After any number of heavy items came and went, as many fit as at the beginning."""
        inbox = Inbox(max_events=100, max_bytes=50_000, on_full="drop_oldest")
        for _ in range(50):
            inbox.put_event(TextLogged(key="k", text=HEAVY))
            inbox.put((0.0, None, {f"m{i}": 0.0 for i in range(100)}))
            inbox.take(1)
        while inbox.take(100):
            pass
        inbox.take_losses()

        for _ in range(9):
            inbox.put_event(TextLogged(key="k", text=HEAVY))

        assert inbox.pending == 9
        assert inbox.take_losses() == []

    def test_after_the_end(self):
        """What comes after closing is dropped under its own reason, lifecycle events too."""
        inbox = Inbox(max_events=10, max_bytes=1000, on_full="block")
        inbox.closed = True
        inbox.put((1.0, None, {}))
        inbox.put_event(ArtifactReady(path="p", kind="k", name="n", time=3.0))

        (loss,) = inbox.take_losses()

        assert (loss.count, loss.first_time, loss.last_time) == (2, 1.0, 3.0)
        assert "after the end" in loss.reason
        assert inbox.pending == 0


class TestBlocking:
    """`on_full="block"` waits for a writer that lives."""

    @pytest.mark.usefixtures("many_switches")
    def test_nothing_is_lost(self, tmp_path, soak):
        """Four threads through a queue of two places: every event is journalled, none is a gap."""
        options = BusOptions(on_full="block", queue_events=2, flush_interval=0.01)
        bus = Bus(tmp_path / "journal", options=options)
        count = 300 * soak

        def publish(thread: int) -> None:
            for index in range(count):
                bus.publish(MetricsLogged(metrics={"n": float(thread)}, step=index))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, range(4)))
        account = bus.close(10)

        assert account.written
        asserter = JournalAsserter(tmp_path).complete()
        for thread in range(4):
            steps = [e.step for e in asserter.of(MetricsLogged) if e.metrics["n"] == thread]
            assert steps == list(range(count))

    def test_closing_frees_who_waits(self, eventually):
        """Who waits for room when the inbox closes goes on, and the item is counted."""
        inbox = Inbox(max_events=1, max_bytes=1000, on_full="block")
        inbox.put((0.0, None, {}))
        waiting = threading.Thread(target=inbox.put, args=((0.0, None, {}),))
        waiting.start()
        eventually(lambda: inbox.wake.wait(0))
        assert inbox.pending == 1

        inbox.closed = True

        waiting.join(5)
        assert not waiting.is_alive()
        assert sum(loss.count for loss in inbox.take_losses()) == 1
