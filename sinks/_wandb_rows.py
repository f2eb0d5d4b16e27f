"""Puts values into rows of a run's history, each with its number, its times and its axes."""

import logging
from collections.abc import Mapping

from pydantic import JsonValue

from bus import Event, Record, RejectedError
from sinks._values import compact
from sinks._wandb_plan import Plan
from sinks._wandb_state import Memory
from sinks._wandb_summary import Summary
from sinks._wandb_values import LONGEST_LINE, RESERVED, STEP, axes_of

log = logging.getLogger("sinks")


class Rows:
    """The rows of one batch.

    Args:
        memory: What earlier ones have delivered; changed to what these will have.
        summary: Told of each row.
        plan: Where they go.
    """

    def __init__(self, memory: Memory, summary: Summary, plan: Plan) -> None:
        self._memory = memory
        self._summary = summary
        self._plan = plan

    def add(self, record: Record, values: Mapping[str, JsonValue]) -> None:
        """Add a row of what no earlier attempt has delivered, if anything is left of it.

        Raises:
            RejectedError: It is longer than a line may be.
        """
        memory, step = self._memory, record.event.step
        row = self._unmasked(record, values)
        if not row:
            return
        if step is not None:
            memory.delivered |= dict.fromkeys(row, step)
            row[STEP] = step
        for axis in axes_of(row, memory.defined):
            if axis not in row and (last := self._summary.value(axis)) is not None:
                row[axis] = last
        row |= {"_step": memory.step, **self.times(record.event)}
        line = compact(row)
        if len(line.encode()) > LONGEST_LINE:
            raise RejectedError(
                f"a row of {len(line)} characters; W&B takes {LONGEST_LINE} bytes",
                guilty=(self._plan.records,),
            )
        memory.step += 1
        self._summary.row(row)
        self._plan.history(line)

    def has(self, record: Record, key: str) -> bool:
        """Whether a key has a value at this step already."""
        step = record.event.step
        return step is not None and self._memory.delivered.get(_name(record, key)) == step

    def times(self, event: Event) -> dict[str, JsonValue]:
        """When it happened, in Unix seconds and in seconds since the run began."""
        return {
            "_timestamp": event.time,
            "_runtime": max(0.0, event.time - self._memory.started),
        }

    def drop(self, reason: str) -> None:
        """Count a value that is left out; the first one of a reason is a warning."""
        count = self._memory.dropped.get(reason, 0)
        if not count:
            log.warning("some of what was logged is not sent to W&B: %s", reason)
        self._memory.dropped = {**self._memory.dropped, reason: count + 1}

    def _unmasked(self, record: Record, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        memory, step = self._memory, record.event.step
        # What an earlier attempt logged and could not deliver then is trained by nobody again.
        mask = memory.mask if record.attempt >= memory.masked_for else {}
        row: dict[str, JsonValue] = {}
        for key, value in values.items():
            name = _name(record, key)
            if name in RESERVED:
                self.drop(f"the name {name} is the server's own")
            elif step is not None and step <= max(memory.floor, mask.get(name, -1)):
                memory.masked += 1
            else:
                row[name] = value
        return row


def _name(record: Record, key: str) -> str:
    return f"rank{record.rank}/{key}" if record.rank else key
