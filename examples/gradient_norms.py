"""Names the parameter whose gradient leaves its band, and by how much.

`run.watch` computes norms on the device and publishes them without waiting; a subscriber compares
each with its own running median. What it finds is an event of its own, for other subscribers,
sinks and the journal.

    python examples/gradient_norms.py
"""

from collections import defaultdict, deque
from statistics import median
from typing import Literal

import torch

import runtime
from bus import Event, EventStream, MetricsLogged

PREFIX = "gradients/norm/"


class GradientSpike(Event):
    """A parameter's gradient is many times as large as it was lately.

    Attributes:
        parameter: Its name in the model.
        norm: The 2-norm of its gradient.
        usual: The median of the norms before.
    """

    type: Literal["gradient_spike"] = "gradient_spike"
    parameter: str
    norm: float
    usual: float


def watch_gradients(run: runtime.Run, *, factor: float = 10.0, window: int = 50) -> None:
    """Publish a `GradientSpike` for each norm above `factor` times its median over `window`."""

    @run.subscribe(MetricsLogged, name="gradient_norms")
    async def compare(events: EventStream[MetricsLogged]) -> None:
        lately: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))
        async for event in events:
            for name, norm in event.metrics.items():
                if not name.startswith(PREFIX):
                    continue
                before = lately[name]
                if len(before) >= 10 and norm > factor * (usual := median(before)):
                    parameter = name.removeprefix(PREFIX)
                    run.publish(
                        GradientSpike(step=event.step, parameter=parameter, norm=norm, usual=usual)
                    )
                before.append(norm)


def main() -> list[GradientSpike]:
    """Train a small network with one wild batch at step 80; returns what was found."""
    found: list[GradientSpike] = []
    runtime.set_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with runtime.Run(name="gradient_norms") as run:
        watch_gradients(run)

        @run.on(GradientSpike)
        async def remember(event: GradientSpike) -> None:
            found.append(event)

        watch = run.watch(model, every=1)
        for step in range(1, 101):
            inputs = torch.randn(32, 8)
            wanted = inputs.sum(1, keepdim=True) * (1000 if step == 80 else 1)
            loss = (model(inputs) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            watch.sample(step)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
            run.log({"loss": loss}, step=step)
            if run.safe_point(step).stop:
                break
    return found


if __name__ == "__main__":
    for spike in main():
        print(
            f"step {spike.step}: {spike.parameter} has {spike.norm:.3g}, usually {spike.usual:.3g}"
        )
