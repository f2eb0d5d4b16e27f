"""Saves a checkpoint every so many minutes of the clock, whatever the steps take.

python examples/save_on_schedule.py
"""

import time

from small_loop import train

import runtime
from bus import Control, EventStream, MetricsLogged, Save, Stop


def save_on_schedule(run: runtime.Run, *, minutes: float = 30.0) -> None:
    """Ask for a checkpoint once the last one is `minutes` old.

    Only the latest event is kept for this subscriber: it looks at the clock, not at the values.
    """

    @run.subscribe(MetricsLogged, overflow="latest")
    async def save_now_and_then(events: EventStream[MetricsLogged], control: Control) -> None:
        last = time.monotonic()
        async for _ in events:
            if time.monotonic() - last >= minutes * 60:
                last = time.monotonic()
                control.request(Save(reason=f"{minutes:g} minutes have passed"))


def main() -> list[str]:
    """Save each tenth of a second until three checkpoints are there; returns their names."""
    with runtime.Run(name="save_on_schedule") as run:
        save_on_schedule(run, minutes=0.1 / 60)

        @run.on(MetricsLogged, overflow="latest")
        async def enough(_event: MetricsLogged, control: Control) -> None:
            if len(list(run.dir.glob("checkpoint-*.pt"))) >= 3:
                control.request(Stop(reason="three checkpoints are there"))

        train(run, steps=10_000_000)
    return sorted(path.name for path in run.dir.glob("checkpoint-*.pt"))


if __name__ == "__main__":
    print("checkpoints:", *main())
