"""Ctrl-C at every point of a publishing call where Python looks for signals.

Whatever it interrupts, every other thread goes on, what is published later arrives, the run closes
in its time, and the account adds up.
"""

import dis
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import Literal

import pytest

from bus import (
    AlertRaised,
    ArtifactReady,
    BusOptions,
    Evaluated,
    Event,
    Gap,
    Handle,
    MessageLogged,
    MetricsLogged,
    RunEnded,
    Save,
    TextLogged,
    deferred_interrupt,
)
from bus.testing import JournalAsserter
from runtime import Run
from tests.waiting import HANG

LOOKED_INTO = ("bus", "runtime", "threading", "contextlib", "logging")
LOOKS = ("CALL", "JUMP_BACKWARD", "SEND")
"""After these instructions, and as a function begins, Python looks for signals."""


class Interrupter:
    """Sends a signal at the n-th point of a call at which it could be noticed.

    Args:
        number: The signal.
        raises: What its handler raises.
    """

    def __init__(
        self,
        number: signal.Signals = signal.SIGINT,
        raises: type[BaseException] = KeyboardInterrupt,
    ) -> None:
        self._number = number
        self._raises = raises
        self._left = 0
        self._last: dict[FrameType, str] = {}

    def interrupt(self, call: Callable[[], object], at: int) -> bool:
        """Make a call and interrupt it; tell whether it has so many points."""
        self._left, self._last = at, {}
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            call()
        except self._raises:
            pass
        finally:
            sys.settrace(before)
        return self._left <= 0

    def _trace(self, frame: FrameType, event: str, _argument: object) -> object:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in LOOKED_INTO:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "call" or (event == "opcode" and self._last.get(frame, "").startswith(LOOKS)):
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(self._number)
        if event == "opcode":
            self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return self._trace


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Interrupter()
    signal.signal(signal.SIGINT, before)


class WorkerDiedError(RuntimeError):
    """As torch raises it where SIGCHLD tells of a data loader's worker."""


@contextmanager
def deaths_raise() -> Iterator[None]:
    """Has SIGCHLD raise."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise WorkerDiedError

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        signal.signal(signal.SIGCHLD, before)


@dataclass(frozen=True)
class Case:
    """A call to interrupt.

    Attributes:
        call: Takes the run and a number of its own.
        options: The run's.
    """

    call: Callable[[Run, int], object]
    options: BusOptions


def publish(make: Callable[[int], Event]) -> Callable[[Run, int], object]:
    return lambda run, number: run.publish(make(number))


def log(run: Run, number: int) -> None:
    run.log({"n": float(number)}, step=number)


def log_heavily(run: Run, number: int) -> None:
    run.log({f"n{each}": 1.0 for each in range(70)}, step=number)


def reject(run: Run, number: int) -> None:
    run.log({f"bad {number}": "no number"}, step=number)  # type: ignore[dict-item]  # what is tested


def flush(run: Run, number: int) -> None:
    log(run, number)
    run.flush(1.0)


def message(number: int) -> Event:
    return MessageLogged(text="m", step=number)


def heavy(number: int) -> Event:
    return TextLogged(key="k", text="x" * 5000, step=number)


QUICK = BusOptions(flush_interval=0.002)
FULL = BusOptions(flush_interval=0.05, queue_events=2, queue_bytes=12_000)
BLOCK = BusOptions(flush_interval=0.002, queue_events=2, queue_bytes=12_000, on_full="block")
WRITE = BusOptions(flush_interval=0.002, durability="write")

CASES = {
    "log": Case(log, QUICK),
    "log much": Case(log_heavily, QUICK),
    "log nonsense": Case(reject, QUICK),
    "log, full queue": Case(log, FULL),
    "log, blocking": Case(log, BLOCK),
    "log, writing": Case(log, WRITE),
    "publish": Case(publish(message), QUICK),
    "publish something urgent": Case(publish(lambda n: AlertRaised(title="t", step=n)), QUICK),
    "publish an artifact": Case(
        publish(lambda n: ArtifactReady(path="p", kind="k", name="n", step=n)), QUICK
    ),
    "publish a text": Case(publish(heavy), QUICK),
    "publish a text, full queue": Case(publish(heavy), FULL),
    "publish a text, blocking": Case(publish(heavy), BLOCK),
    "publish a text, writing": Case(publish(heavy), WRITE),
    "publish, full queue": Case(publish(message), FULL),
    "flush": Case(flush, QUICK),
    "flush, writing": Case(flush, WRITE),
}


def interrupt_everywhere(interrupter: Interrupter, call: Callable[[int], object]) -> list[int]:
    """Interrupt calls, later each time; after each, another thread makes one whole.

    Returns:
        The points; every one of the first 150, and some of those that a longer call has.
    """
    points: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        for at in (*range(1, 150), *range(150, 10_000, 37)):
            interrupted = interrupter.interrupt(lambda at=at: call(at), at)
            pool.submit(call, at).result(5)
            points.append(at)
            if not interrupted:
                return points
    raise AssertionError("a call without an end")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_everything_goes_on_and_adds_up(tmp_path, interrupter, case):
    """Nothing stays locked, nothing is journalled twice, nothing is lost uncounted."""
    run = Run("run", dir=tmp_path, options=case.options, close_timeout=2 * HANG)
    points = interrupt_everywhere(interrupter, lambda number: case.call(run, number))
    run.flush(2.0)
    account = run.close()

    assert len(points) > 3
    assert account is not None
    assert account.written
    assert account.seconds < HANG
    statistics = run.statistics()
    events = JournalAsserter(run.dir).events
    journalled = [event for event in events if not isinstance(event, Gap)]
    assert len(journalled) + statistics.dropped_count == statistics.published
    assert sum(event.count for event in events if isinstance(event, Gap)) == (
        statistics.dropped_count
    )
    # At each number once whole and once interrupted, which may or may not have come so far.
    steps = Counter(event.step for event in journalled if event.step is not None)
    assert max(steps.values(), default=0) <= 2
    if "queue full" not in statistics.dropped and case.call is not reject:
        assert set(steps) == set(points)


def test_decisions_are_heard_of(tmp_path, interrupter):
    """Whoever asked hears what became of it, wherever a safe point is interrupted."""
    run = Run("run", dir=tmp_path, options=QUICK)
    handles: list[Handle] = []

    def decide(number: int) -> None:
        handles.append(run.control.request(Save()))
        run.safe_point(number)

    points = interrupt_everywhere(interrupter, decide)
    run.safe_point(0)
    with ThreadPoolExecutor(1) as pool:
        resolutions = pool.submit(lambda: [handle.wait(5) for handle in handles]).result(5)
    assert len(points) > 3
    assert all(resolution.applied for resolution in resolutions)
    account = run.close(timeout=3.0)
    assert account is not None
    assert account.written


def test_deciders_are_asked_again(tmp_path, interrupter):
    """A decider that nobody waits for any more holds up neither itself nor the run."""
    run = Run("run", dir=tmp_path, options=QUICK)

    @run.decider(Evaluated, deadline=5.0)
    async def decide(_event: Evaluated) -> Save:
        return Save()

    seen: list[MetricsLogged] = []

    @run.on(MetricsLogged)
    async def see(event: MetricsLogged) -> None:
        seen.append(event)

    points = interrupt_everywhere(
        interrupter, lambda number: run.publish(Evaluated(metrics={}, step=number))
    )
    log(run, 1)
    run.flush(2.0)
    account = run.close(timeout=3.0)
    assert len(points) > 3
    assert account is not None
    assert (account.written, account.abandoned, account.unread) == (True, (), {})
    assert len(seen) == 1
    assert run.statistics().deciders["decide"].late == 0


def test_a_run_ends_as_it_must(tmp_path):
    """A worker's death that is noticed while a failed run closes does not keep it from that."""
    killer, error = Interrupter(signal.SIGCHLD, WorkerDiedError), ConnectionError("its pipe")
    more, at = True, 2  # at 1 it comes instead of `__exit__`
    while more:
        run = Run(f"run {at}", dir=tmp_path, options=QUICK)
        with deaths_raise():
            more = killer.interrupt(lambda run=run: run.__exit__(type(error), error, None), at)
        assert run.closed
        (ending,) = JournalAsserter(run.dir).of(RunEnded)
        assert ending.outcome == "failed"
        at += 1 if at < 60 else 23
    assert at > 10


@pytest.mark.usefixtures("interrupter")  # has SIGINT raise
def test_the_first_event_of_a_class():
    """What pydantic builds on first use is not spoilt, and Ctrl-C is not swallowed there."""
    looking = []

    class Kind(Enum):
        NEW = "new"

        def __hash__(self) -> int:
            if looking.pop() if looking else False:
                signal.raise_signal(signal.SIGINT)
            return 1

    class Noticed(Event):
        type: Literal["interrupts_noticed"] = "interrupts_noticed"
        kind: Literal[Kind.NEW] = Kind.NEW

    looking.append(True)
    with pytest.raises(KeyboardInterrupt):
        Noticed()
    assert not looking
    assert Noticed().kind is Kind.NEW


@pytest.mark.usefixtures("interrupter")  # has SIGINT raise
class TestDeferred:
    def test_raises_when_the_block_is_over(self):
        """The first interrupt waits for the end of the outermost block."""
        done, hurried = [], []

        def work() -> None:
            with deferred_interrupt(lambda: hurried.append(1)):
                with deferred_interrupt():
                    signal.raise_signal(signal.SIGINT)
                    done.append("inner")
                done.append("outer")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert (done, hurried) == (["inner", "outer"], [1])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_second_one_leaves_at_once(self):
        """Whoever insists is obeyed."""
        done = []

        def work() -> None:
            with deferred_interrupt():
                signal.raise_signal(signal.SIGINT)
                done.append("first")
                signal.raise_signal(signal.SIGINT)
                done.append("second")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["first"]

    def test_a_child_that_ends(self):
        """What SIGCHLD's handler does waits for the end of the outermost block."""
        done: list[str] = []

        def work() -> None:
            with deaths_raise(), deferred_interrupt():
                with deferred_interrupt():
                    signal.raise_signal(signal.SIGCHLD)
                    signal.raise_signal(signal.SIGINT)
                    done.append("inner")
                done.append("outer")

        with pytest.raises(KeyboardInterrupt) as raised:
            work()
        assert done == ["inner", "outer"]
        assert isinstance(raised.value.__context__, WorkerDiedError)

    def test_leaves_other_threads_and_handlers_alone(self):
        """Only the main thread is interrupted, and only a handler that raises is put off."""
        found = []

        def look() -> None:
            with deferred_interrupt():
                found.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        look()
        assert found == [signal.default_int_handler, signal.SIG_IGN]
