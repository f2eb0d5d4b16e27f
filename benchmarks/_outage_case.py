"""One outage for `outage.py`: a sink is down while events are published, then takes them all.

Started by it as `python _outage_case.py FOLDER EVENTS`; prints a `Result` as JSON.
"""

import sys
import time
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from bus import (
    JOURNAL_FOLDER,
    Batch,
    BatchLimits,
    Bus,
    MetricsLogged,
    RunEnded,
    RunInfo,
    Sink,
    State,
    UnavailableError,
    sink_context,
)

RATE = 1000.0
"""Events a second that the outage stands for."""

_CHUNK = 2000


class Result(BaseModel):
    """What was measured.

    Attributes:
        resident: MiB of this process after each tenth of the outage.
        drained: Events a second afterwards.
        peak: MiB at most while it drained.
        delivered: Events that arrived, in order.
    """

    resident: list[float]
    drained: float
    peak: float
    delivered: int


class Down(Sink):
    """Takes nothing until it is told to; checks the order."""

    name = "down"
    wants = (MetricsLogged,)
    limits = BatchLimits(events=1000, age=0.0)
    up: ClassVar[bool] = False
    got: int = 0

    async def write(self, batch: Batch, state: State) -> State:
        """Refuse, or count."""
        if not type(self).up:
            raise UnavailableError("down")
        for record in batch:
            assert record.event.step == self.got, (record, self.got)
            self.got += 1
        return state


def resident() -> float:
    """MiB that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Publish as fast as is journalled, then let it drain."""
    folder, events = Path(sys.argv[1]) / "run", int(sys.argv[2])
    folder.mkdir()
    RunInfo.new("outage", None).save(folder)
    bus = Bus(folder / JOURNAL_FOLDER)
    sink = Down()
    bus.add_sink(sink, sink_context(folder))
    measured: list[float] = []
    for step in range(events):
        bus.publish(MetricsLogged(step=step, metrics={"loss": 0.5, "norm": 1.5}))
        if step % _CHUNK == 0:
            bus.flush()
        if (step + 1) % (events // 10) == 0:
            measured.append(resident())
    bus.flush()
    Down.up = True
    peak = 0.0
    while sink.got == 0:
        time.sleep(0.01)
    started, first = time.monotonic(), sink.got
    while sink.got < events:
        time.sleep(0.1)
        peak = max(peak, resident())
    seconds = time.monotonic() - started
    bus.close(30, last=lambda: RunEnded(outcome="finished"))
    result = Result(
        resident=measured,
        drained=(events - first) / seconds,
        peak=peak,
        delivered=sink.got,
    )
    print(result.model_dump_json())


if __name__ == "__main__":
    main()
