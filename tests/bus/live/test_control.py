"""Requests reach the training thread's safe points from anywhere, and every handle resolves."""

import asyncio
import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal

import pytest
from pydantic import ValidationError, field_serializer

from bus import (
    AlertRaised,
    Control,
    Decision,
    DecisionApplied,
    DecisionTimeoutError,
    Evaluate,
    Event,
    EventDefinitionError,
    EventStream,
    Handle,
    Log,
    MetricsLogged,
    Request,
    RequestRefused,
    Resolution,
    RunEnded,
    Save,
    SetLearningRate,
    Stop,
)
from tests.waiting import HANG


class Prune(Request):
    """A request of the user's own."""

    type: Literal["live_prune"] = "live_prune"
    share: float = 0.5


class Interrupting(Request):
    """A request during whose journalling this very thread gets a signal."""

    type: Literal["live_interrupting"] = "live_interrupting"
    number: int = int(signal.SIGUSR1)

    @field_serializer("number")
    def _signal(self, number: int) -> int:
        signal.raise_signal(number)
        return number


class Unwritable(Request):
    """A request that cannot be serialized."""

    type: Literal["live_unwritable"] = "live_unwritable"
    value: int = 1

    @field_serializer("value")
    def _fails(self, value: int) -> int:
        raise RuntimeError(f"{value} cannot be written")


@contextlib.contextmanager
def on_signal(handle: Callable[[], object], number: int = signal.SIGUSR1) -> Iterator[None]:
    """Installs a handler for a signal in the main thread, where these tests run."""

    def called(_number: int, _frame: FrameType | None) -> None:
        handle()

    previous = signal.signal(number, called)
    try:
        yield
    finally:
        signal.signal(number, previous)


class TestAsking:
    def test_from_another_thread(self, bus):
        """The request waits for the safe point and is signed with the thread's name."""
        thread = threading.Thread(
            target=bus.control.request, args=(Save(reason="disk"),), name="keeper"
        )
        thread.start()
        thread.join()
        decision = bus.control.safe_point(7)
        assert (decision.save, decision.stop) == (True, False)
        assert decision.requests[0].by == "thread keeper"

    def test_by_is_kept_when_given(self, bus):
        """Who signs a request is believed."""
        bus.control.request(Stop(by="alice"))
        assert bus.control.safe_point(1).requests[0].by == "alice"

    def test_from_a_subscribers_own_task(self, bus, publish, eventually):
        """Tasks that a subscriber starts sign with its name as well."""

        @bus.on(MetricsLogged)
        async def delegating(_event: MetricsLogged, control: Control) -> None:
            async def ask() -> None:
                control.request(Save())

            await asyncio.create_task(ask())

        publish(1)
        eventually(lambda: bus.control.pending)
        assert bus.control.safe_point(1).requests[0].by == "delegating"

    def test_from_a_signal_handler_while_publishing(self, bus, journal, publish):
        """A handler that interrupts the publishing thread asks and publishes without harm."""

        def handle() -> None:
            bus.control.request(Save(reason="signal"))
            bus.publish(AlertRaised(title="signal"))

        with on_signal(handle):
            for _ in range(20):
                publish(3)
                signal.raise_signal(signal.SIGUSR1)
        assert len(bus.control.safe_point(1).of(Save)) == 20
        bus.close(5)
        assert len(journal.of(AlertRaised)) == 20
        assert len(journal.of(MetricsLogged)) == 60

    def test_signals_at_any_instruction_never_deadlock(self, bus, journal, eventually):
        """Urgent events from a handler that interrupts urgent events: no lock is waited for."""
        handled, over = [0], threading.Event()
        publishing = threading.get_ident()

        def handle() -> None:
            handled[0] += 1
            bus.publish(AlertRaised(title="signal"))
            bus.control.request(Log())

        def send() -> None:
            for sent in range(1, 1001):
                signal.pthread_kill(publishing, signal.SIGUSR1)
                eventually(lambda sent=sent: handled[0] >= sent)
            over.set()

        with on_signal(handle):
            sender = threading.Thread(target=send)
            sender.start()
            published = 0
            while not over.is_set():
                bus.publish(AlertRaised(title="loop"))
                bus.control.safe_point(published)
                published += 1
                bus.flush()
            sender.join()
        bus.control.safe_point(published)
        bus.close(10)
        assert len(journal.of(AlertRaised)) == published + handled[0]
        assert len(journal.of(DecisionApplied)) == handled[0] == 1000

    def test_from_within_a_safe_point(self, bus):
        """What is asked while decisions are being published belongs to the next safe point."""
        with on_signal(lambda: bus.control.request(Stop(reason="again"))):
            first = bus.control.request(Interrupting())
            decision = bus.control.safe_point(1)
        assert not decision.stop
        assert decision.requests == (first.request,)
        assert bus.control.safe_point(2).stop

    def test_an_interrupted_safe_point_still_answers(self):
        """Ctrl-C in the middle of a safe point leaves nobody waiting for ever."""

        def interrupted(_event: Event) -> None:
            raise KeyboardInterrupt

        control = Control(interrupted)
        handles = [control.request(Save()), control.request(Stop())]
        with pytest.raises(KeyboardInterrupt):
            control.safe_point(1)
        assert all(handle.done for handle in handles)
        assert control.safe_point(2).stop

    def test_a_request_that_cannot_be_written_down_still_works(self, bus, journal):
        """A field of the user's that fails to serialize stops neither the loop nor closing."""
        handle = bus.control.request(Unwritable(by="eve"))
        assert bus.control.safe_point(1).of(Unwritable)
        assert handle.wait(0).applied
        bus.control.request(Unwritable())
        assert bus.close(5).written
        assert [event.by for event in journal.of(DecisionApplied)] == ["eve"]
        assert journal.of(RequestRefused)[0].request == {"type": "live_unwritable"}

    def test_something_else_is_refused_with_a_hint(self, bus):
        """A class instead of an instance is a mistake that the asker should see."""
        with pytest.raises(TypeError, match="is no request; pass one, such as Stop"):
            bus.control.request(Stop)


class TestDecisions:
    def test_idle_safe_points_return_the_same_object(self, bus):
        """Nothing asked, nothing built; also after a stop."""
        idle = bus.control.safe_point(1)
        assert bus.control.safe_point(2) is idle
        assert idle == Decision()
        bus.control.request(Stop())
        bus.control.safe_point(3)
        assert bus.control.safe_point(4) is bus.control.safe_point(5) is not idle

    def test_everything_asked_since_the_last_one_comes_together(self, bus):
        """Flags combine, the last learning rate counts, requests keep their order."""
        asked = [
            SetLearningRate(value=0.1),
            Save(),
            Evaluate(),
            Prune(share=0.25),
            SetLearningRate(value=0.01),
        ]
        for request in asked:
            bus.control.request(request)
        decision = bus.control.safe_point(3)
        assert (decision.save, decision.evaluate, decision.log, decision.stop) == (
            True,
            True,
            False,
            False,
        )
        assert decision.learning_rate == 0.01
        assert [request.type for request in decision.requests] == [each.type for each in asked]

    def test_a_stop_stays_and_the_rest_does_not(self, bus):
        """A loop that overlooks a stop sees it again; a save is done once."""
        bus.control.request(Stop(by="first"))
        bus.control.request(Save())
        assert bus.control.safe_point(1).save
        later = bus.control.safe_point(2)
        assert (later.stop, later.save, later.requests) == (True, False, ())
        bus.control.request(Stop(by="second"))
        bus.control.request(Save())
        both = bus.control.safe_point(3)
        assert both.stop
        assert both.save
        assert bus.control.stopped_by.by == "first"

    def test_requests_of_ones_own_are_found_by_class(self, bus):
        """`of` gives them back typed, oldest first; subclasses of a class count."""
        for share in (0.1, 0.2):
            bus.control.request(Prune(share=share))
        bus.control.request(Stop())
        decision = bus.control.safe_point(1)
        assert [request.share for request in decision.of(Prune)] == [0.1, 0.2]
        assert len(decision.of(Request)) == 3
        assert decision.of(Save) == ()

    @pytest.mark.parametrize("value", [0, -0.1, math.inf, math.nan, "fast"])
    def test_a_learning_rate_is_positive_and_finite(self, value):
        """Anything else is refused where the request is made."""
        with pytest.raises(ValidationError):
            SetLearningRate(value=value)

    def test_a_request_needs_a_type_of_its_own(self):
        """Two classes of one type could not be told apart in the journal."""
        with pytest.raises(EventDefinitionError, match="'stop'"):

            class Halt(Request):
                type: Literal["stop"] = "stop"

    def test_applied_and_refused_are_journalled(self, bus, journal):
        """The journal says what was asked, by whom, why, and what became of it."""
        bus.control.request(Prune(share=0.25, by="bob", reason="too large"))
        bus.control.safe_point(12)
        bus.control.request(Stop(by="carol", reason="late"))
        bus.close(5)

        [applied] = journal.of(DecisionApplied)
        assert (applied.step, applied.by, applied.reason) == (12, "bob", "too large")
        assert applied.request == {"type": "live_prune", "share": 0.25}
        [refused] = journal.of(RequestRefused)
        assert (refused.by, refused.reason, refused.why) == ("carol", "late", "the run ended")
        assert refused.request == {"type": "stop"}

    def test_a_decision_is_on_disk_without_waiting_for_a_flush(self, make_bus, journal, eventually):
        """Who stopped the run must be readable even if the process dies a moment later."""
        bus = make_bus(flush_interval=60)
        bus.control.request(Stop(by="dave"))
        bus.control.safe_point(1)
        eventually(lambda: [event.by for event in journal.of(DecisionApplied)] == ["dave"])


class TestHandles:
    def test_a_subscriber_awaits_its_request(self, bus, publish, eventually):
        """It goes on when the request took effect, and knows at which step."""
        resolutions: list[Resolution] = []

        @bus.subscribe(MetricsLogged)
        async def asks(events: EventStream[MetricsLogged], control: Control) -> None:
            await anext(events)
            resolutions.append(await control.request(Save()))

        publish(1)
        eventually(lambda: bus.control.pending)
        assert not resolutions
        bus.control.safe_point(41)
        eventually(lambda: resolutions == [Resolution(applied=True, step=41)])

    def test_several_tasks_and_threads_wait_for_one_handle(self, bus, publish, eventually):
        """Everybody who waits hears of it, and who comes later does as well."""
        handle, heard = bus.control.request(Save()), []

        @bus.on(MetricsLogged)
        async def listens(_event: MetricsLogged) -> None:
            async def listen() -> None:
                heard.append(await handle)

            await asyncio.gather(listen(), listen())

        publish(1)
        threads = [threading.Thread(target=lambda: heard.append(handle.wait())) for _ in range(2)]
        for thread in threads:
            thread.start()
        bus.control.safe_point(5)
        for thread in threads:
            thread.join(10)
        eventually(lambda: len(heard) == 4)
        assert set(heard) == {Resolution(applied=True, step=5)} == {handle.wait(0)}
        assert handle.done

    def test_waiting_has_an_end(self, bus):
        """A thread that waits for a loop that does not come gets an error in time."""
        handle = bus.control.request(Save())
        with pytest.raises(DecisionTimeoutError, match=r"save was not decided within 0\.05 s"):
            handle.wait(0.05)
        assert not handle.done

    def test_what_waits_at_the_end_is_refused(self, bus):
        """A thread that waits without a limit is released when the run ends."""
        handle = bus.control.request(Save())
        found: list[Resolution] = []
        thread = threading.Thread(target=lambda: found.append(handle.wait()))
        thread.start()
        bus.close(5)
        thread.join(10)
        assert found == [Resolution(applied=False, why="the run ended")]

    def test_a_subscriber_that_awaits_at_the_end_does_not_hold_it_up(self, bus, publish):
        """Closing refuses first, so a subscriber that waits for an answer can finish."""
        found: list[Resolution] = []

        @bus.on(MetricsLogged)
        async def asks(_event: MetricsLogged, control: Control) -> None:
            found.append(await control.request(Save()))

        publish(3)
        account = bus.close(2 * HANG)
        assert [each.applied for each in found] == [False] * 3
        assert account.abandoned == ()
        assert account.seconds < HANG

    def test_after_the_end_requests_come_back_refused(self, bus, journal):
        """Nobody waits for a loop that is over, and the journal's end stays its end."""
        bus.close(5, last=lambda: RunEnded(outcome="finished"))
        handle = bus.control.request(Stop())
        assert handle.wait(0) == Resolution(applied=False, why="the run ended")
        assert not bus.control.safe_point(9).stop
        assert isinstance(journal.events[-1], RunEnded)

    def test_asking_while_closing_leaves_no_handle_open(self, make_bus):
        """Threads that ask at the very moment of closing all get an answer."""
        bus = make_bus(remembers=False)
        handles: list[Handle] = []
        started = threading.Barrier(5)

        def ask() -> None:
            started.wait()
            handles.extend(bus.control.request(Save()) for _ in range(200))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        bus.close(5)
        for thread in threads:
            thread.join()
        assert len(handles) == 800
        assert all(not handle.wait(5).applied for handle in handles)

    def test_awaiting_after_its_loop_has_gone_is_no_error(self, bus):
        """A loop of the asker's own that ended early does not disturb the safe point."""
        handle = bus.control.request(Save())

        async def impatient() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await handle

        asyncio.run(impatient())
        assert bus.control.safe_point(1).save
        assert handle.done
