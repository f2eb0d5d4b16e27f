"""Raises an alert when the loss is not a number or leaves its band, and stops the training.

The alert reaches every sink that shows alerts (Slack, Discord, W&B, ...).

    python examples/alert_on_divergence.py
"""

import math

from small_loop import train

import runtime
from bus import Control, EventStream, MetricsLogged, Stop


def alert_on_divergence(run: runtime.Run, *, factor: float = 10.0, smoothing: float = 0.98) -> None:
    """Watch `loss`: more than `factor` times its running mean is a divergence."""

    @run.subscribe(MetricsLogged, when=lambda event: "loss" in event.metrics)
    async def watch_the_loss(events: EventStream[MetricsLogged], control: Control) -> None:
        mean: float | None = None
        async for event in events:
            loss = event.metrics["loss"]
            mean = loss if mean is None else mean
            if not math.isfinite(loss) or loss > factor * mean:
                told = f"the loss is {loss} at step {event.step}; its running mean was {mean:.3g}"
                run.alert("training diverges", told, level="error", step=event.step)
                control.request(Stop(reason=told))
                return
            mean = smoothing * mean + (1 - smoothing) * loss


def main() -> int:
    """Train on data that goes bad at step 150; returns the step at which training stopped."""
    with runtime.Run(name="alert_on_divergence") as run:
        alert_on_divergence(run)
        return train(run, steps=100_000, spoil_at=150)


if __name__ == "__main__":
    print("stopped after step", main())
