"""Goes through what a batch means, first its records and then the requests that they come to."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from anyio.lowlevel import checkpoint

from bus import Batch, Record, State

_SLICE: Final = 50
"""Records that are translated before others on the loop have their turn."""


class Step(Protocol):
    """Something to send."""

    @property
    def done(self) -> int:
        """How many records of the batch are complete after it."""
        ...


AnyStep = TypeVar("AnyStep", bound=Step)


async def translate(records: Iterable[Record], add: Callable[[Record], None]) -> None:
    """Add records to a translation, one after another."""
    for index, record in enumerate(records):
        if index % _SLICE == _SLICE - 1:
            await checkpoint()
        add(record)


async def take_steps(
    steps: Sequence[AnyStep],
    batch: Batch,
    take: Callable[[AnyStep, int], Awaitable[None]],
    state: Callable[[AnyStep], State],
) -> None:
    """Take steps in order, acknowledging the records that each but the last one completes.

    Args:
        steps: What is to be sent.
        batch: The batch they are of.
        take: Sends one; told how many records of the batch have been acknowledged.
        state: What is to be remembered after one.
    """
    committed = 0
    for step in steps:
        await take(step, committed)
        if step.done > committed and step is not steps[-1]:
            await batch.commit(step.done - committed, state(step))
            committed = step.done
