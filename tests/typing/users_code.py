"""What users write, only type-checked: mypy and pyright, both strict, accept it without a cast."""

from typing import Literal, assert_type

from bus import (
    Control,
    Decision,
    Evaluated,
    Event,
    EventStream,
    Handle,
    MetricsLogged,
    Request,
    Resolution,
    SetLearningRate,
    Stop,
)
from runtime import EarlyStopping, Run


class GradientSpike(Event):
    """The gradient norm left its band."""

    type: Literal["gradient_spike"] = "gradient_spike"
    norm: float
    layer: str


class Shrink(Request):
    """Halve the batch."""

    type: Literal["shrink"] = "shrink"
    factor: float = 0.5


def train(run: Run) -> None:
    """Register subscribers of every form, and read what comes back."""

    @run.subscribe(MetricsLogged, when=lambda event: "loss" in event.metrics, every=2)
    async def stream(events: EventStream[MetricsLogged], control: Control) -> None:
        async for event in events:
            assert_type(event, MetricsLogged)
            handle = control.request(SetLearningRate(value=event.metrics["loss"]))
            assert_type(handle, Handle)
            assert_type(await handle, Resolution)

    @run.subscribe(MetricsLogged, Evaluated, overflow="latest", on_error="restart")
    async def two_types(events: EventStream[Event]) -> None:
        async for event in events:
            assert_type(event, Event)

    @run.on(GradientSpike, once=True)
    async def handler(event: GradientSpike) -> None:
        assert_type(event.layer, str)

    @run.decider(Evaluated, deadline=2.0)
    async def enough(event: Evaluated) -> Stop | None:
        return Stop(reason="enough") if event.metrics["accuracy"] > 0.99 else None

    run.decider(Evaluated)(EarlyStopping(metric="loss").decider())
    run.publish(GradientSpike(step=3, norm=8.1, layer="h.3"))
    run.console("lines", total=10, metrics=["loss"]).close()
    decision = run.safe_point(3)
    assert_type(decision, Decision)
    assert_type(decision.of(Shrink), tuple[Shrink, ...])
    assert_type(decision.learning_rate, float | None)
