"""Live subscribers see what they asked for, in order, and every event offered is accounted for."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Literal

import pytest

from bus import (
    AlertRaised,
    Bus,
    ClosedError,
    Control,
    Evaluated,
    Event,
    EventStream,
    MetricsLogged,
    StepEnded,
    Stop,
)
from bus.testing import Recorder


class Anomaly(Event):
    """An abstract step towards concrete events."""

    severity: int = 0


class GradientAnomaly(Anomaly):
    type: Literal["live_gradient_anomaly"] = "live_gradient_anomaly"


class LossAnomaly(Anomaly):
    type: Literal["live_loss_anomaly"] = "live_loss_anomaly"


class TestForms:
    def test_a_stream_ends_with_the_run_after_its_backlog(self, bus, publish):
        """Closing waits for what was published, in order; then the loop in the subscriber ends."""
        recorder = Recorder()
        bus.subscribe(MetricsLogged)(recorder)
        publish(500)
        bus.close(10)

        assert recorder.metrics("n") == list(range(500))
        assert recorder.ended

    def test_a_stream_with_the_control_channel_can_ask(self, bus, publish, eventually):
        """A coroutine function of two arguments gets the channel of this bus."""

        @bus.subscribe(MetricsLogged)
        async def watcher(events: EventStream[MetricsLogged], control: Control) -> None:
            async for event in events:
                if event.step == 3:
                    control.request(Stop(reason="seen enough"))

        publish(5)
        eventually(lambda: bus.control.pending)
        [request] = bus.control.safe_point(5).requests
        assert (request.by, request.reason) == ("watcher", "seen enough")

    def test_a_handler_takes_one_event_at_a_time(self, bus, publish):
        """Calls never overlap, even if each of them waits."""
        busy, seen = [], []

        @bus.on(MetricsLogged)
        async def handle(event: MetricsLogged) -> None:
            assert not busy
            busy.append(event)
            await asyncio.sleep(0)
            busy.clear()
            seen.append(event.step)

        publish(50)
        bus.close(10)
        assert seen == list(range(50))
        assert bus.statistics().subscribers["handle"].failures == 0

    def test_a_handler_with_the_control_channel_can_ask(self, bus, publish, eventually):
        """A handler of two arguments gets the channel of this bus."""

        @bus.on(MetricsLogged)
        async def handle(_event: MetricsLogged, control: Control) -> None:
            control.request(Stop())

        publish(1)
        eventually(lambda: bus.control.pending)
        assert bus.control.safe_point(1).stop

    def test_callable_objects_methods_and_partial_functions_subscribe(self, bus, publish):
        """Anything asynchronous to call will do; a partial function is named for what it wraps."""
        seen = []

        class Handler:
            async def __call__(self, event: Event) -> None:
                seen.append(("object", event.step))

            async def method(self, event: Event) -> None:
                seen.append(("method", event.step))

        async def collect(tag: str, event: Event) -> None:
            seen.append((tag, event.step))

        class Tagger:
            async def __call__(self, tag: str, event: Event) -> None:
                seen.append((tag, event.step))

        handlers = [
            Handler(),
            Handler().method,
            functools.partial(collect, "partial"),
            functools.partial(functools.partial(Tagger()), "partial object"),
        ]
        for each in handlers:
            assert bus.on(MetricsLogged)(each) is each
        publish(1)
        bus.close(10)

        assert sorted(seen) == [("method", 0), ("object", 0), ("partial", 0), ("partial object", 0)]
        assert set(bus.statistics().subscribers) == {"Handler", "method", "collect", "Tagger"}

    def test_a_parameter_with_a_default_keeps_it(self, bus, publish):
        """Only a second parameter that needs a value, or is called control, gets the channel."""
        given = {}

        for number in (1, 2):

            @bus.on(MetricsLogged)
            async def bound(_event: Event, number: int = number) -> None:
                given[number] = True

        @bus.on(MetricsLogged)
        async def optional(_event: Event, control: Control | None = None) -> None:
            given["control"] = control

        @bus.on(MetricsLogged)
        async def variable(*arguments: object) -> None:
            given["arguments"] = len(arguments)

        publish(1)
        bus.close(10)
        assert given == {1: True, 2: True, "control": bus.control, "arguments": 1}

    def test_the_decorators_give_the_function_back(self, bus):
        """A decorated function can still be called and tested by itself."""

        async def stream(events: EventStream[Event]) -> None: ...
        async def decide(event: Event) -> None: ...

        assert bus.subscribe(Event)(stream) is stream
        assert bus.on(Event)(decide) is decide
        assert bus.decider(Evaluated)(decide) is decide

    def test_two_subscribers_of_one_name_are_told_apart(self, bus):
        """Statistics and requests name each; the second gets a number."""

        async def watch(event: Event) -> None: ...

        for _ in range(3):
            bus.on(Event)(watch)
        bus.decider(Evaluated)(watch)
        bus.subscribe(Event, name="watch-2")(Recorder())

        assert list(bus.statistics().subscribers) == ["watch", "watch-2", "watch-3", "watch-2-2"]
        assert list(bus.statistics().deciders) == ["watch-4"]

    def test_subscribing_late_shows_only_what_follows(self, bus, publish):
        """Events written before are in the journal, not in the stream."""
        publish(10)
        bus.flush()
        recorder = Recorder()
        bus.subscribe(MetricsLogged)(recorder)
        publish(3)
        bus.close(10)
        assert recorder.metrics("n") == [0, 1, 2]

    def test_returning_early_ends_the_subscription_alone(self, bus, publish, eventually):
        """What follows is not offered to it any more; others go on; nothing is left unclosed."""
        others = Recorder()
        bus.subscribe(MetricsLogged)(others)

        @bus.subscribe(MetricsLogged)
        async def first_three(events: EventStream[MetricsLogged]) -> None:
            async for event in events:
                if event.step == 2:
                    return

        publish(10)
        eventually(lambda: bus.statistics().subscribers["first_three"].pending == 0)
        eventually(lambda: len(others.events) == 10)
        publish(10)
        bus.close(10)

        account = bus.statistics().subscribers["first_three"]
        assert account.delivered == 3
        assert account.offered == 3 + sum(account.dropped.values()) <= 10
        assert set(account.dropped) <= {"subscriber finished"}
        assert len(others.events) == 20

    def test_subscribing_from_many_threads_at_once_loses_nobody(self, bus, publish):
        """The loop starts once, names stay distinct, everybody is served."""
        recorders = [Recorder() for _ in range(16)]
        threads = [
            threading.Thread(target=bus.subscribe(MetricsLogged), args=(recorder,))
            for recorder in recorders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        publish(20)
        bus.close(10)

        assert [len(recorder.events) for recorder in recorders] == [20] * 16
        assert len(bus.statistics().subscribers) == 16


class TestFilters:
    def test_a_subclass_is_shown_to_who_asked_for_its_base(self, bus):
        """Several classes, a base class and Event select what isinstance would."""
        base, both, everything = Recorder(), Recorder(), Recorder()
        bus.subscribe(Anomaly)(base)
        bus.subscribe(LossAnomaly, AlertRaised)(both)
        bus.subscribe(Event)(everything)
        for event in (
            GradientAnomaly(severity=1),
            LossAnomaly(severity=2),
            AlertRaised(title="look"),
            MetricsLogged(metrics={"loss": 1.0}),
        ):
            bus.publish(event)
        bus.close(10)

        assert [type(event) for event in base.events] == [GradientAnomaly, LossAnomaly]
        assert [type(event) for event in both.events] == [LossAnomaly, AlertRaised]
        assert len(everything.events) == 4

    def test_each_condition_by_itself(self, bus, publish):
        """when, every, once, before and after each keep what their names say."""
        expected = {
            "when": [7, 8, 9],
            "every": [2, 5, 8],
            "once": [0],
            "before": [0, 1, 2],
            "after": [8, 9],
        }
        recorders = {name: Recorder() for name in expected}
        bus.subscribe(MetricsLogged, when=lambda e: e.metrics["n"] > 6)(recorders["when"])
        bus.subscribe(MetricsLogged, every=3)(recorders["every"])
        bus.subscribe(MetricsLogged, once=True)(recorders["once"])
        bus.subscribe(MetricsLogged, before=3)(recorders["before"])
        bus.subscribe(MetricsLogged, after=7)(recorders["after"])
        publish(10)
        bus.close(10)

        assert {name: each.metrics("n") for name, each in recorders.items()} == expected

    def test_a_range_of_steps_leaves_out_events_without_one(self, bus):
        """An event that belongs to no step lies on neither side of one."""
        recorder = Recorder()
        bus.subscribe(MetricsLogged, after=0)(recorder)
        bus.publish(MetricsLogged(metrics={"n": 0.0}))
        bus.publish(MetricsLogged(step=1, metrics={"n": 1.0}))
        bus.close(10)
        assert recorder.metrics("n") == [1.0]

    def test_a_predicate_runs_beside_the_subscriber(self, bus, publish):
        """It runs on the loop thread, never on the thread that publishes."""
        threads = set()

        def remember(_event: Event) -> bool:
            threads.add(threading.current_thread().name)
            return True

        bus.subscribe(MetricsLogged, when=remember)(Recorder())
        publish(3)
        bus.close(10)
        assert threads == {"hotloop-live"}


class TestOverflow:
    @pytest.fixture
    def stalled(self, bus, publish, release, eventually):
        """Publishes 0 to 9 while a subscriber holds the loop, and returns what it read after."""

        def run(**options: object) -> tuple[list[float], dict[str, int]]:
            recorder, held = Recorder(), threading.Event()

            @bus.on(AlertRaised)
            async def holds(_event: AlertRaised) -> None:
                held.set()
                release.wait()

            bus.subscribe(MetricsLogged, name="slow", **options)(recorder)
            bus.publish(AlertRaised(title="hold"))
            assert held.wait(10)
            publish(10)
            eventually(lambda: bus.statistics().subscribers["slow"].offered == 10)
            release.set()
            bus.close(10)
            account = bus.statistics().subscribers["slow"]
            assert account.delivered + sum(account.dropped.values()) == account.offered == 10
            return recorder.metrics("n"), account.dropped

        return run

    def test_drop_oldest_keeps_the_newest(self, stalled):
        """The buffer holds what came last, in order; the rest is counted."""
        assert stalled(buffer=4) == ([6, 7, 8, 9], {"buffer full": 6})

    def test_drop_newest_keeps_the_oldest(self, stalled):
        """The buffer holds what came first, in order; the rest is counted."""
        assert stalled(buffer=4, overflow="drop_newest") == ([0, 1, 2, 3], {"buffer full": 6})

    def test_latest_keeps_one(self, stalled):
        """Only the newest event waits, whatever the buffer's size."""
        assert stalled(buffer=4, overflow="latest") == ([9], {"superseded": 9})

    def test_pending_is_visible_while_it_waits(self, bus, publish, release, eventually):
        """A backlog shows in the statistics and is gone when it was read."""

        @bus.on(MetricsLogged)
        async def slow(_event: MetricsLogged) -> None:
            await asyncio.to_thread(release.wait)

        publish(5)
        eventually(lambda: bus.statistics().subscribers["slow"].pending == 4)
        release.set()
        eventually(lambda: bus.statistics().subscribers["slow"].pending == 0)


class TestMistakes:
    @pytest.fixture
    def register(self, bus) -> dict[str, Callable[..., object]]:
        return {"subscribe": bus.subscribe, "on": bus.on, "decider": bus.decider}

    @pytest.mark.parametrize("form", ["subscribe", "on", "decider"])
    def test_a_plain_function_is_refused(self, register, form):
        """The message says what to write instead."""

        def announce(event: Event) -> None: ...

        with pytest.raises(TypeError, match="announce must be a coroutine function: async def"):
            register[form](Evaluated)(announce)

    @pytest.mark.parametrize("form", ["subscribe", "on", "decider"])
    def test_a_wrong_number_of_arguments_is_refused(self, register, form):
        """None and three are wrong; so is one that can only be given by name."""

        async def none() -> None: ...
        async def three(event: Event, control: Control, more: int) -> None: ...
        async def named(*, event: Event) -> None: ...

        for each in (none, three, named):
            with pytest.raises(TypeError, match=f"{each.__name__} must take one argument, or two"):
                register[form](Evaluated)(each)

    @pytest.mark.parametrize("form", ["subscribe", "on", "decider"])
    def test_anything_but_event_classes_is_refused(self, register, form):
        """An instance, another class, a forgotten pair of parentheses, and nothing at all."""

        async def forgot_the_parentheses(event: Event) -> None: ...

        for wrong in (Evaluated(metrics={}), int, "evaluated", forgot_the_parentheses):
            with pytest.raises(TypeError, match="is no event class; pass classes such as"):
                register[form](wrong)
        with pytest.raises(ValueError, match="at least one event class"):
            register[form]()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"every": 0}, "every=0 must be 1 or more"),
            ({"buffer": 0}, "buffer=0 must be 1 or more"),
            ({"overflow": "drop_some"}, "overflow='drop_some' must be one of drop_oldest"),
            ({"on_error": "retry"}, "on_error='retry' must be"),
        ],
    )
    def test_an_option_out_of_range_is_named(self, bus, options, message):
        """The message gives the value and what it may be."""
        with pytest.raises(ValueError, match=message):
            bus.subscribe(Event, **options)(Recorder())

    def test_a_predicate_must_be_callable(self, bus):
        """It is said when subscribing, not when the first event comes."""
        with pytest.raises(TypeError, match="when=True must be a function"):
            bus.on(Event, when=True)

    @pytest.mark.parametrize("deadline", [0, -1, 3601, float("nan")])
    def test_a_deadline_must_be_usable(self, bus, deadline):
        """Training would wait for nothing, or for hours."""
        with pytest.raises(ValueError, match="must be above 0 and at most 3600 seconds"):
            bus.decider(Evaluated, deadline=deadline)

    @pytest.mark.parametrize("form", ["subscribe", "on", "decider"])
    def test_a_closed_run_takes_nobody(self, bus, register, form):
        """Subscribing after the end says so instead of waiting for events that never come."""

        async def too_late(event: Event) -> None: ...

        bus.close(5)
        with pytest.raises(ClosedError, match="'too_late' would never see an event"):
            register[form](Evaluated)(too_late)


class TestLiveOnly:
    def test_nobody_wants_what_nobody_asked_for(self, bus, eventually):
        """`wants` says whether building an event is worth it, also after its reader has left."""
        assert bus.wants(MetricsLogged)
        assert not bus.wants(StepEnded)

        @bus.subscribe(StepEnded)
        async def only_one(events: EventStream[StepEnded]) -> None:
            async for _event in events:
                return

        assert bus.wants(StepEnded)
        bus.publish(StepEnded(step=1))
        eventually(lambda: not bus.wants(StepEnded))

    def test_a_decider_wants_its_event(self, bus):
        """An event with a decider is worth building."""

        @bus.decider(StepEnded)
        async def decide(event: StepEnded) -> None: ...

        assert bus.wants(StepEnded)

    def test_it_is_neither_published_unasked_nor_ever_journalled(self, bus: Bus, journal):
        """Without a subscriber it enters no queue; with one it still stays out of the file."""
        before = bus.statistics().published
        bus.publish(StepEnded(step=1))
        assert bus.statistics().published == before

        recorder = Recorder()
        bus.subscribe(StepEnded)(recorder)
        bus.publish(StepEnded(step=2))
        bus.publish(MetricsLogged(step=2, metrics={"n": 2.0}))
        bus.close(10)

        assert [event.step for event in recorder.events] == [2]
        assert [type(event) for event in journal.events] == [MetricsLogged]
