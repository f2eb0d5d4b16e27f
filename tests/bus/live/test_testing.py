"""`bus.testing`: what it records, which journals it accepts, what a replay shows a subscriber."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import (
    AlertRaised,
    CheckpointSaved,
    Control,
    Evaluated,
    Event,
    EventStream,
    Gap,
    MetricsLogged,
    RunEnded,
    RunStarted,
    Save,
    Stop,
)
from bus.testing import JournalAsserter, Recorder, replay

STARTED = RunStarted(name="r", run_id="1", attempt=1)
ENDED = RunEnded(outcome="finished")


@pytest.fixture
def written(make_bus, journal) -> Callable[..., JournalAsserter]:
    """Writes a journal of these events and returns its asserter."""

    def write(*events: Event) -> JournalAsserter:
        bus = make_bus()
        for event in events:
            bus.publish(event)
        bus.close(5)
        return JournalAsserter(journal.run_dir)

    return write


class TestRecorder:
    def test_it_remembers_in_order_and_by_class(self, bus):
        """Everything it was shown, and the values of one metric from whatever event had it."""
        recorder = Recorder()
        bus.subscribe(Event)(recorder)
        bus.publish(MetricsLogged(step=1, metrics={"loss": 3.0, "lr": 0.1}))
        bus.publish(AlertRaised(title="look"))
        bus.publish(Evaluated(step=2, metrics={"loss": 2.0}))
        assert not recorder.ended
        bus.close(5)
        assert recorder.ended
        assert [event.type for event in recorder.events] == [
            "metrics_logged",
            "alert_raised",
            "evaluated",
        ]
        assert [event.title for event in recorder.of(AlertRaised)] == ["look"]
        assert recorder.metrics("loss") == [3.0, 2.0]
        assert recorder.metrics("lr") == [0.1]
        assert recorder.metrics("accuracy") == []


class TestJournalAsserter:
    def test_a_good_journal_passes_every_check(self, written):
        """Checks return the asserter, so that they chain."""
        saved = CheckpointSaved(step=100, path="ckpt")
        asserter = written(STARTED, saved, saved.model_copy(update={"step": 200}), ENDED)
        asserter.complete().unbroken().begins().ends("finished").has(
            CheckpointSaved, step=100, path="ckpt"
        ).has(CheckpointSaved, count=2).has(AlertRaised, count=0)
        assert len(asserter.events) == 4
        assert [path.name for path in asserter.segments()] == ["rank0-a1-000001.jsonl"]

    def test_complete_fails_on_a_gap(self, written):
        """A loss that was recorded is still a loss."""
        asserter = written(STARTED, Gap(reason="queue full", count=3), ENDED)
        with pytest.raises(AssertionError, match="3 lost: queue full"):
            asserter.complete()

    def test_complete_fails_on_a_damaged_line(self, written):
        """A line whose checksum is wrong is named by number of lines."""
        asserter = written(STARTED, AlertRaised(title="intact"), ENDED)
        [segment] = asserter.segments()
        segment.write_bytes(segment.read_bytes().replace(b"intact", b"broken"))
        with pytest.raises(AssertionError, match="1 damaged lines"):
            reread(segment).complete()

    def test_complete_and_unbroken_fail_on_a_missing_line(self, written):
        """A hole in the positions is a loss that nobody recorded."""
        asserter = written(STARTED, AlertRaised(title="here"), ENDED)
        [segment] = asserter.segments()
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(lines[0] + lines[2])
        for check in (reread(segment).unbroken, reread(segment).complete):
            with pytest.raises(AssertionError, match="positions hold 3 where 2 belongs"):
                check()

    def test_begins_fails_without_a_start(self, written):
        """An attempt that begins otherwise is named."""
        with pytest.raises(AssertionError, match="attempt 1 begins with AlertRaised"):
            written(AlertRaised(title="early"), STARTED).begins()

    def test_ends_fails_on_another_outcome_or_event(self, written):
        """A wrong outcome, another last event."""
        with pytest.raises(AssertionError, match="the run ended as finished, not as failed"):
            written(STARTED, ENDED).ends("failed")

    def test_ends_fails_when_something_follows(self, written):
        """The end must be the end."""
        with pytest.raises(AssertionError, match="the last event is AlertRaised"):
            written(STARTED, ENDED, AlertRaised(title="late")).ends("finished")

    def test_ends_fails_on_an_empty_journal(self, tmp_path):
        """Nothing has not ended well."""
        (tmp_path / "journal").mkdir()
        with pytest.raises(AssertionError, match="holds no events"):
            JournalAsserter(tmp_path).ends("finished")

    def test_has_fails_on_fields_and_on_counts(self, written):
        """The message says what was looked for and what there was."""
        asserter = written(STARTED, CheckpointSaved(step=100, path="ckpt"), ENDED)
        with pytest.raises(AssertionError, match=r"no CheckpointSaved\(step=200\) among 1"):
            asserter.has(CheckpointSaved, step=200)
        with pytest.raises(AssertionError, match=r"1 times CheckpointSaved\(\), not 2"):
            asserter.has(CheckpointSaved, count=2)
        with pytest.raises(AssertionError, match=r"no AlertRaised\(\) among 0"):
            asserter.has(AlertRaised)


def reread(segment: Path) -> JournalAsserter:
    return JournalAsserter(segment.parent.parent)


async def stop_on_divergence(events: EventStream[MetricsLogged], control: Control) -> None:
    async for event in events:
        if event.metrics["loss"] > 5:
            control.request(Stop(reason=f"step {event.step}"))
            return


class TestReplay:
    @pytest.mark.asyncio
    async def test_a_recorded_run_through_a_subscriber(self, written, journal):
        """A subscriber written for a live run gives its verdict on a finished one."""
        losses = [1.0, 2.0, 9.0, 99.0]
        events = [MetricsLogged(step=n, metrics={"loss": x}) for n, x in enumerate(losses)]
        written(STARTED, *events, ENDED)
        [request] = await replay(journal.run_dir, stop_on_divergence, MetricsLogged)
        assert isinstance(request, Stop)
        assert request.reason == "step 2"

    @pytest.mark.asyncio
    async def test_events_of_ones_own(self):
        """No run is needed; classes and a predicate select as they would live."""
        recorder = Recorder()
        events: list[Event] = [
            MetricsLogged(step=1, metrics={"loss": 1.0}),
            AlertRaised(title="not shown"),
            MetricsLogged(step=2, metrics={"lr": 0.1}),
        ]
        asked = await replay(
            events, recorder, MetricsLogged, when=lambda event: "loss" in event.metrics
        )
        assert recorder.metrics("loss") == [1.0]
        assert len(recorder.events) == 1
        assert recorder.ended
        assert list(asked) == []

    @pytest.mark.asyncio
    async def test_all_events_in_any_number(self):
        """Without classes everything is shown, however long the backlog."""
        recorder = Recorder()
        await replay((AlertRaised(title=str(n)) for n in range(5000)), recorder)
        assert [event.title for event in recorder.of(AlertRaised)] == [str(n) for n in range(5000)]

    @pytest.mark.asyncio
    async def test_awaited_requests_take_effect_at_once(self):
        """A subscriber that waits for its request does not wait for a loop that is not there."""

        async def saves(events: EventStream[Evaluated], control: Control) -> None:
            async for event in events:
                resolution = await control.request(Save(reason=str(event.step)))
                assert resolution.applied

        events = [Evaluated(step=step, metrics={}) for step in (1, 2)]
        async with asyncio.timeout(5):
            requests = await replay(events, saves)
        assert [request.reason for request in requests] == ["1", "2"]

    @pytest.mark.asyncio
    async def test_failures_come_through(self):
        """A test wants to see the exception, not a count of it."""

        async def fails(events: EventStream[Event]) -> None:
            async for _event in events:
                raise ValueError("seen")

        with pytest.raises(ValueError, match="seen"):
            await replay([AlertRaised(title="x")], fails)
