"""Stops the training when it has cost as much as it may.

python examples/stop_at_cost.py
"""

import time

from small_loop import train

import runtime
from bus import Control, EventStream, MetricsLogged, Save, Stop


def stop_at_cost(
    run: runtime.Run, *, limit: float, per_gpu_hour: float, gpus: int = 1, spent: float = 0.0
) -> None:
    """Save and stop once the run has cost `limit`.

    Args:
        run: The run.
        limit: What it may cost, in the currency of `per_gpu_hour`.
        per_gpu_hour: The price of one GPU for an hour.
        gpus: How many there are, over all ranks.
        spent: What earlier attempts have cost already.
    """
    price = per_gpu_hour * gpus / 3600

    @run.subscribe(MetricsLogged, overflow="latest")
    async def watch_the_purse(events: EventStream[MetricsLogged], control: Control) -> None:
        began = time.monotonic()
        async for _ in events:
            cost = spent + (time.monotonic() - began) * price
            if cost >= limit:
                reason = f"{cost:.2f} of {limit:.2f} is spent"
                control.request(Save(reason=reason))
                control.request(Stop(reason=reason))
                return


def main() -> int:
    """Train on eight dear GPUs with two cents to spend; returns the last step."""
    with runtime.Run(name="stop_at_cost") as run:
        stop_at_cost(run, limit=0.02, per_gpu_hour=90.0, gpus=8)
        return train(run, steps=10_000_000)


if __name__ == "__main__":
    print("stopped after step", main())
