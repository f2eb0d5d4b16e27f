"""What this library itself does on the event loop never blocks it."""

from blockbuster import blockbuster_ctx

from bus import (
    AlertRaised,
    Control,
    Evaluated,
    Event,
    EventStream,
    MessageLogged,
    MetricsLogged,
    Save,
    Stop,
)
from bus.testing import Recorder


def test_publishing_asking_and_failing_on_the_loop(bus, eventually):
    """Streams, handlers, deciders, requests, failures and restarts without one blocking call."""
    recorder, steps = Recorder(), []
    with blockbuster_ctx() as blockbuster:
        # The lock of what measures coverage, which is not ours.
        locks = blockbuster.functions["threading.Lock.acquire"]
        locks.can_block_in("coverage/collector.py", "lock_data")
        bus.subscribe(Event)(recorder)

        @bus.subscribe(MetricsLogged, on_error="restart")
        async def asks(events: EventStream[MetricsLogged], control: Control) -> None:
            async for event in events:
                bus.publish(MessageLogged(text="x" * 10_000, step=event.step))
                bus.publish(AlertRaised(title="urgent"))
                resolution = await control.request(Save())
                steps.append(resolution.step)
                raise ValueError("once more")

        @bus.decider(Evaluated)
        async def decide(_event: Evaluated) -> Stop:
            return Stop()

        bus.publish(MetricsLogged(step=1, metrics={}))
        eventually(lambda: bus.control.pending)
        bus.control.safe_point(1)
        bus.publish(Evaluated(metrics={}))
        assert bus.control.safe_point(2).stop
        eventually(lambda: steps)
        account = bus.close(10)

    assert steps == [1]
    assert recorder.ended
    assert account.abandoned == ()
    statistics = bus.statistics()
    assert statistics.subscribers["Recorder"].failures == 0
    assert statistics.subscribers["asks"].failures == 1
    assert statistics.deciders["decide"].answered == 1
