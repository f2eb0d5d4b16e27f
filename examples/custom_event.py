"""An event of one's own from end to end: published, subscribed to, journalled, read back.

python examples/custom_event.py
"""

from typing import Literal

import torch

import runtime
from bus import Event, JournalReader


class BatchDropped(Event):
    """A batch was not learned from.

    Attributes:
        index: Which one, in the order of the data.
        samples: How many samples it had.
        why: What was wrong with it.
    """

    type: Literal["batch_dropped"] = "batch_dropped"
    index: int
    samples: int
    why: Literal["empty", "not finite"]


def check(run: runtime.Run, index: int, batch: torch.Tensor) -> bool:
    """Whether to learn from a batch on the CPU; publishes why not."""
    if not len(batch):
        run.publish(BatchDropped(step=index, index=index, samples=0, why="empty"))
        return False
    if not batch.isfinite().all():
        run.publish(BatchDropped(step=index, index=index, samples=len(batch), why="not finite"))
        return False
    return True


def main() -> list[BatchDropped]:
    """Check four batches, two of them bad; returns what the journal says of them."""
    batches = [torch.ones(4), torch.tensor([]), torch.tensor([1.0, torch.nan]), torch.ones(2)]
    with runtime.Run(name="custom_event") as run:

        @run.on(BatchDropped)
        async def tell(event: BatchDropped) -> None:
            run.alert("bad data", f"batch {event.index} is {event.why}", step=event.step)

        for index, batch in enumerate(batches, start=1):
            if check(run, index, batch):
                run.log({"mean": batch.mean()}, step=index)
    records = JournalReader(run.dir).records(types=(BatchDropped,))
    return [record.event for record in records if isinstance(record.event, BatchDropped)]


if __name__ == "__main__":
    for event in main():
        print(event)
