"""A sink's `watch` runs beside its writes, and what it asks reaches the training."""

import logging
import os

import anyio
import pytest

from bus import (
    JOURNAL_FOLDER,
    AttemptInfo,
    Bus,
    BusOptions,
    MetricsLogged,
    RunInfo,
    Save,
    SinkContext,
    Stop,
    UnavailableError,
)
from tests.bus.delivery.conftest import ScriptedSink
from tests.bus.delivery.elsewhere import StopButton, Wish
from tests.waiting import eventually


class Watching(ScriptedSink):
    """Does at each start of `watch` what its script says next, and then nothing, for ever."""

    def __init__(self, *script, answers=()):
        super().__init__(answers)
        self.script = list(script)
        self.began = []

    async def watch(self):
        self.began.append(anyio.current_time())
        self.calls.append("watch")
        step = self.script.pop(0) if self.script else None
        if step == "return":
            return
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            self.ask(step)
        try:
            await anyio.sleep_forever()
        finally:
            self.calls.append("watch ended")


async def deliver(run, sink, asks=None):
    """Deliver what is there, and end."""
    delivery = run.delivery(sink, asks=asks)
    delivery.finish("finished", anyio.current_time() + 10_000)
    await delivery.run()
    return delivery.account


@pytest.mark.anyio
class TestWatch:
    """It lives from `open` to the last write, and disturbs nobody."""

    async def test_it_ends_with_the_writes(self, write_run):
        """So that no heartbeat speaks of a run whose end the destination has been told."""
        sink = Watching()
        account = await deliver(write_run(3), sink, [].append)

        assert account.complete
        assert sink.calls == ["open", "watch", "watch ended", "close finished", "release"]

    async def test_one_that_fails_begins_again_later(self, write_run, caplog):
        """As the destination wishes or with growing pauses; a bug is logged, and once."""
        failures = [UnavailableError("busy", retry_after=30.0), *[ValueError("odd")] * 2]
        sink = Watching(*failures, answers=[UnavailableError("down", retry_after=600.0)])
        with caplog.at_level(logging.WARNING, "bus"):
            account = await deliver(write_run(3), sink, [].append)

        assert account.complete
        assert sink.values == [0, 1, 2]
        assert len(sink.began) == 4
        assert sink.began[1] - sink.began[0] >= 30
        assert len([each for each in caplog.messages if "the watch of sink" in each]) == 1

    async def test_one_that_returns_is_over(self, write_run):
        """A destination that turns out to have nothing to look after costs nothing more."""
        sink = Watching("return", answers=[UnavailableError("down", retry_after=600.0)])
        await deliver(write_run(3), sink, [].append)

        assert len(sink.began) == 1

    async def test_it_ends_with_a_delivery_that_is_given_up(self, write_run):
        """A write that hangs, and an end that does not wait for it."""
        sink = Watching(answers=[lambda _: anyio.sleep_forever()])
        delivery = write_run(3).delivery(sink, asks=[].append)
        async with anyio.create_task_group() as group:
            group.start_soon(delivery.run)
            await anyio.sleep(10)
            delivery.abandon()

        assert sink.calls == ["open", "watch", "watch ended", "release"]

    async def test_nothing_is_watched_where_nothing_trains(self, write_run):
        """As in `hotloop sync`: a request is heard by nobody and harms nobody."""
        sink = Watching()
        sink.ask(Stop())
        account = await deliver(write_run(3), sink)

        assert account.complete
        assert sink.calls == ["open", "close finished", "release"]


@pytest.mark.anyio
async def test_a_request_names_the_sink_unless_it_names_somebody(write_run):
    """So that the journal and the account can say which page the stop came from."""
    asked = []
    await deliver(write_run(1), Watching(Stop(reason="pressed")), asked.append)
    await deliver(write_run(1, attempt=2), Watching(Save(by="ann")), asked.append)

    assert asked == [Stop(reason="pressed", by="scripted"), Save(by="ann")]


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    info = RunInfo.new("run", None)
    info.attempts.append(AttemptInfo.here(1, None))
    info.save(folder)
    return folder


@pytest.mark.parametrize("where", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_it_reaches_the_training_from_wherever_it_is_made(run_dir, tmp_path, where):
    """A stop button pressed on a page stops the run, custom requests travel as well."""
    bus = Bus(run_dir / JOURNAL_FOLDER, options=BusOptions(deliver=where))
    try:
        context = SinkContext(run_dir=run_dir, run_id=RunInfo.load(run_dir).id, name="run")
        bus.add_sink(StopButton(path=tmp_path / "rows"), context)
        bus.publish(MetricsLogged(step=0, metrics={"n": 0.0}))
        eventually(lambda: bus.control.pending == 2)

        decision = bus.control.safe_point(1)
        wish, stop = decision.requests
        assert decision.stop
        assert stop == Stop(reason="pressed on the page", by="button")
        assert isinstance(wish, Wish)
        assert (wish.reason == f"from {os.getpid()}") is (where == "thread")
    finally:
        bus.close(10)
