"""The training thread waits for deciders up to their deadline, and for nothing longer."""

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runtime
from bus import (
    AlertRaised,
    Bus,
    Control,
    DeadlockError,
    DecisionApplied,
    Evaluated,
    Event,
    EventStream,
    Log,
    MetricsLogged,
    Request,
    Save,
    Stop,
    SubscriberFailed,
)
from tests.waiting import HANG

SOON = Evaluated(step=1, metrics={"loss": 1.0})


class TestAnswers:
    def test_an_answer_is_there_at_the_next_safe_point(self, bus, journal):
        """Publishing returns when the decider has answered, so the decision is not a step late."""

        @bus.decider(Evaluated)
        async def enough(event: Evaluated) -> Stop | None:
            await asyncio.sleep(0.02)
            return Stop(reason="good") if event.metrics["loss"] < 0.5 else None

        for step, loss in enumerate([0.9, 0.7, 0.4]):
            bus.publish(Evaluated(step=step, metrics={"loss": loss}))
            assert bus.control.safe_point(step).stop is (loss < 0.5)
        assert bus.statistics().deciders["enough"].answered == 3
        bus.close(5)
        [decision] = journal.of(DecisionApplied)
        assert (decision.step, decision.by, decision.reason) == (2, "enough", "good")
        assert len(journal.of(Evaluated)) == 3

    def test_several_are_asked_at_once_and_all_answers_count(self, bus):
        """Three deciders that each wait take as long as one."""
        waiting = []

        def make(name: str, request: Request) -> None:
            together = asyncio.Event()

            @bus.decider(Evaluated, name=name)
            async def decide(_event: Evaluated) -> Request:
                waiting.append(together)
                if len(waiting) == 3:
                    for each in waiting:
                        each.set()
                await together.wait()  # each needs the others to have been asked
                return request

        make("a", Save())
        make("b", Log())
        make("c", Stop())
        bus.publish(SOON)
        decision = bus.control.safe_point(1)
        assert (decision.save, decision.log, decision.stop) == (True, True, True)
        assert sorted(request.by for request in decision.requests) == ["a", "b", "c"]

    def test_a_decider_may_take_the_control_channel(self, bus):
        """What it asks beside its answer counts as well."""

        @bus.decider(Evaluated)
        async def both(_event: Evaluated, control: Control) -> Stop:
            control.request(Save())
            return Stop()

        bus.publish(SOON)
        decision = bus.control.safe_point(1)
        assert decision.save
        assert decision.stop

    def test_only_its_own_events_are_asked(self, bus):
        """Other events do not wait; a base class stands for all its subclasses."""
        asked = []

        @bus.decider(Evaluated)
        async def narrow(event: Event) -> None:
            asked.append(("narrow", event.type))

        @bus.decider(Event)
        async def wide(event: Event) -> None:
            asked.append(("wide", event.type))

        bus.publish(SOON)
        bus.publish(MetricsLogged(metrics={}))
        assert sorted(asked) == [
            ("narrow", "evaluated"),
            ("wide", "evaluated"),
            ("wide", "metrics_logged"),
        ]

    def test_the_answer_to_a_wrong_type_is_a_failure(self, bus, journal, caplog):
        """A decider that returns True is told so, and training goes on."""

        @bus.decider(Evaluated)
        async def agrees(_event: Evaluated) -> bool:
            return True

        bus.publish(SOON)
        assert not bus.control.safe_point(1).requests
        account = bus.statistics().deciders["agrees"]
        assert (account.answered, account.failures) == (0, 1)
        bus.close(5)
        assert "returned bool, not a Request or None" in journal.of(SubscriberFailed)[0].error
        assert "agrees" in caplog.text


class TestFailures:
    @pytest.mark.parametrize(
        "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()], ids=repr
    )
    def test_one_that_raises_does_not_hold_up_training(self, bus, journal, caplog, error):
        """The other's answer counts, the failure is counted, logged once and journalled once."""

        @bus.decider(Evaluated, deadline=60)
        async def broken(_event: Evaluated) -> None:
            raise error

        @bus.decider(Evaluated, deadline=60)
        async def sound(_event: Evaluated) -> Save:
            return Save()

        for _ in range(3):
            bus.publish(SOON)
            assert bus.control.safe_point(1).save
        assert bus.statistics().deciders["broken"].failures == 3
        bus.close(5)
        assert [event.subscriber for event in journal.of(SubscriberFailed)] == ["broken"]
        assert [r.exc_info is not None for r in caplog.records if "broken" in r.getMessage()] == [
            True
        ]

    def test_one_that_is_late_does_not_count(self, bus, caplog):
        """Training goes on at the deadline; what comes after it is no answer."""

        @bus.decider(Evaluated, deadline=0.05)
        async def slow(_event: Evaluated) -> Stop:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Stop()

        bus.publish(SOON)
        bus.publish(SOON)
        bus.close(5)
        account = bus.statistics().deciders["slow"]
        assert (account.answered, account.late, account.failures) == (0, 2, 0)
        assert not bus.control.safe_point(1).stop
        assert caplog.text.count("'slow' did not answer within 0.05 s") == 1

    def test_each_has_its_own_deadline(self, bus, eventually):
        """A patient decider's deadline gives an impatient one no more time."""
        patience = asyncio.Event()

        @bus.decider(Evaluated, deadline=0.05)
        async def impatient(_event: Evaluated) -> Stop:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                patience.set()
            return Stop()

        @bus.decider(Evaluated, deadline=60)
        async def patient(_event: Evaluated) -> Save:
            await patience.wait()
            return Save()

        bus.publish(SOON)
        decision = bus.control.safe_point(1)
        assert decision.save
        assert not decision.stop
        eventually(lambda: bus.statistics().deciders["impatient"].late == 1)
        assert not bus.control.safe_point(2).stop

    def test_one_that_blocks_the_loop_costs_its_deadline(self, bus, release, eventually):
        """The training thread keeps its own clock, so a held loop cannot hold it."""

        @bus.decider(Evaluated, deadline=0.05)
        async def stuck(_event: Evaluated) -> Stop:
            release.wait()
            return Stop()

        started = time.monotonic()
        bus.publish(SOON)
        assert time.monotonic() - started < HANG
        release.set()
        eventually(lambda: bus.statistics().deciders["stuck"].late == 1)
        assert not bus.control.safe_point(1).stop

    def test_a_loop_that_is_busy_elsewhere_costs_no_more_than_the_deadline(
        self, bus, release, eventually
    ):
        """A subscriber that blocks makes a decider late, never training."""
        held = threading.Event()

        @bus.on(AlertRaised)
        async def blocks(_event: AlertRaised) -> None:
            held.set()
            release.wait()

        @bus.decider(Evaluated, deadline=0.05)
        async def waits_its_turn(_event: Evaluated) -> Stop:
            return Stop()

        bus.publish(AlertRaised(title="hold"))
        assert held.wait(10)
        bus.publish(SOON)
        assert not bus.control.safe_point(1).stop
        release.set()
        eventually(lambda: bus.statistics().deciders["waits_its_turn"].late == 1)
        assert not bus.control.safe_point(2).stop


class TestDeadlocks:
    @pytest.mark.parametrize("form", ["await", "wait", "wait in a thread", "child task"])
    def test_waiting_for_a_request_is_refused_at_once(self, bus, form):
        """The only thread that could apply it is waiting for this decider: told, not hung."""
        found: list[BaseException] = []

        async def ask(control: Control) -> None:
            handle = control.request(Save())
            if form == "wait":
                handle.wait()
            elif form == "wait in a thread":
                await asyncio.to_thread(handle.wait)
            else:
                await handle

        @bus.decider(Evaluated, deadline=60)
        async def confused(_event: Evaluated, control: Control) -> Stop:
            try:
                await (asyncio.create_task(ask(control)) if form == "child task" else ask(control))
            except DeadlockError as error:
                found.append(error)
            return Stop()

        started = time.monotonic()
        bus.publish(SOON)
        assert time.monotonic() - started < HANG
        assert "Return the request instead" in str(found[0])
        decision = bus.control.safe_point(1)
        assert decision.stop
        assert decision.save

    def test_a_resolved_handle_may_be_looked_at(self, bus):
        """Only waiting is refused: what is known already can be had."""
        handle = bus.control.request(Save())
        bus.control.safe_point(3)
        steps = []

        @bus.decider(Evaluated)
        async def looks(_event: Evaluated) -> None:
            steps.extend([handle.wait().step, (await handle).step])

        bus.publish(SOON)
        assert steps == [3, 3]

    def test_publishing_from_the_loop_asks_nobody(self, bus, journal, eventually):
        """A subscriber that publishes a decider's event goes on at once: the loop cannot wait."""
        went_on, asked = threading.Event(), []

        @bus.decider(Evaluated, deadline=60)
        async def decide(event: Evaluated) -> None:
            asked.append(event.step)

        @bus.subscribe(MetricsLogged)
        async def evaluates(events: EventStream[MetricsLogged]) -> None:
            async for event in events:
                bus.publish(Evaluated(step=event.step, metrics={}))
                went_on.set()

        bus.publish(MetricsLogged(step=8, metrics={}))
        assert went_on.wait(10)
        eventually(lambda: [event.step for event in journal.of(Evaluated)] == [8])
        assert asked == []

    def test_a_decider_may_publish_its_own_event(self, bus, journal):
        """It is written like any other and asks nobody, so that nothing goes in circles."""

        @bus.decider(Evaluated, deadline=60)
        async def echoes(event: Evaluated) -> None:
            bus.publish(Evaluated(step=(event.step or 0) + 1, metrics={}))

        bus.publish(SOON)
        bus.close(5)
        assert [event.step for event in journal.of(Evaluated)] == [1, 2]

    def test_closing_asks_nobody(self, bus):
        """Refusals at the end do not wait for a decider of everything: closing has one budget."""

        @bus.decider(Event, deadline=60)
        async def never_answers(_event: Event) -> None:
            await asyncio.Event().wait()

        for _ in range(20):
            bus.control.request(Save())
        started = time.monotonic()
        bus.close(2)
        bus.publish(SOON)
        assert time.monotonic() - started < HANG

    def test_a_decider_and_the_first_subscriber_start_one_loop(self, make_bus):
        """Asking from one thread while subscribing on another never splits the loop in two."""
        for _ in range(30):
            bus = make_bus(remembers=False)
            answered = []

            @bus.decider(Evaluated, deadline=60)
            async def decide(_event: Evaluated, answered: list[str] = answered) -> None:
                answered.append(threading.current_thread().name)

            publisher = threading.Thread(target=bus.publish, args=(SOON,))
            publisher.start()
            seen = subscribe_names(bus)
            publisher.join(10)
            bus.publish(MetricsLogged(metrics={}))
            bus.close(5)
            assert answered == ["hotloop-live"] == seen


def subscribe_names(bus: Bus) -> list[str]:
    names: list[str] = []

    @bus.on(MetricsLogged)
    async def name_thread(_event: Event) -> None:
        names.append(threading.current_thread().name)

    return names


def losses(seed: int) -> Iterator[float]:
    """A loss that falls and then wavers, the same for the same seed."""
    generator = random.Random(seed)  # noqa: S311 - no secret
    return (1 / (1 + step) + generator.random() * 0.2 for step in itertools.count(1))


def train(folder: Path, seed: int, stop: Callable[[runtime.Run], None] | None = None) -> int:
    """Evaluates each step and ends where the run says so."""
    with runtime.Run(name="seeded", dir=folder) as run:
        run.decider(Evaluated, deadline=60)(runtime.EarlyStopping(patience=3).decider())
        if stop is not None:
            stop(run)
        for step, loss in enumerate(losses(seed), start=1):
            run.log({"loss": loss}, step=step)
            run.publish(Evaluated(step=step, metrics={"loss": loss}))
            if run.safe_point(step).stop:
                return step
    raise AssertionError("unreachable")


def test_fifty_seeded_runs_end_at_the_same_step(tmp_path):
    """Early stopping is deterministic: 50 of 50 runs, with a busy neighbour on the loop."""

    def busy(run: runtime.Run) -> None:
        @run.on(MetricsLogged)
        async def computes(event: MetricsLogged) -> None:
            sum(range(1000 * (event.step or 1)))

    policy, state, expected = runtime.EarlyStopping(patience=3), runtime.Patience(), 0
    for loss in losses(7):
        state, expected = policy.update(state, loss), expected + 1
        if policy.exhausted(state):
            break
    assert [train(tmp_path, 7, busy) for _ in range(50)] == [expected] * 50
    assert 3 < expected < 200
