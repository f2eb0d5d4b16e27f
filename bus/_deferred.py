"""Metrics whose values are still on their way from a device.

They wait here, overtaken by every host event, so that a device that never answers holds up
nothing. Within a metric's series the order is kept: a later value of a waiting key waits behind it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

_POLLS: int = 256


@runtime_checkable
class DeviceValues(Protocol):
    """Numbers that a device is copying to the host."""

    def ready(self) -> bool:
        """Whether they have arrived. Called by the writer thread; never waits, never raises."""
        ...

    def values(self) -> dict[str, float]:
        """The numbers by metric, once `ready` was true; called once."""
        ...


@dataclass(slots=True, eq=False)
class DeferredMetrics:
    """A call of `run.log` with tensors.

    Attributes:
        time: When it was made, in Unix seconds.
        host: What was known at once.
        keys: Every key it will have, host and device.
        device: The rest, on its way; None if it waits only for its turn in a series.
    """

    time: float
    step: int | None
    host: dict[str, float]
    keys: frozenset[str]
    device: DeviceValues | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Metrics that are complete."""

    time: float
    step: int | None
    metrics: dict[str, float]


class SideQueue:
    """Holds deferred metrics until they arrive; used by the writer thread alone.

    Args:
        limit: Entries that may wait; beyond it the oldest is given up.
    """

    def __init__(self, limit: int) -> None:
        self.given_up: list[DeferredMetrics] = []
        self._limit = limit
        self._waiting: list[DeferredMetrics] = []
        self._keys: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def blocks(self, metrics: dict[str, float]) -> bool:
        """Whether one of these keys has an older value that has not arrived."""
        return bool(self._keys) and not self._keys.keys().isdisjoint(metrics)

    def add(self, entry: DeferredMetrics) -> None:
        """Let an entry wait for its device and for its turn."""
        self._waiting.append(entry)
        self._keys.update(entry.keys)
        if len(self._waiting) > self._limit:
            self._give_up(self._waiting.pop(0))

    def arrived(self) -> list[Arrival]:
        """Remove and return what is complete and not behind an older value of its own series."""
        done: list[Arrival] = []
        left: list[DeferredMetrics] = []
        blocked: set[str] = set()
        polls = 0
        for index, entry in enumerate(self._waiting):
            if polls >= _POLLS:
                left.extend(self._waiting[index:])  # a poll costs about a microsecond
                break
            free = blocked.isdisjoint(entry.keys)
            if free and entry.device is not None:
                polls += 1
                free = entry.device.ready()
            if not free:
                blocked |= entry.keys
                left.append(entry)
                continue
            late = entry.device.values() if entry.device is not None else {}
            self._release(entry)
            done.append(Arrival(entry.time, entry.step, {**entry.host, **late}))
        self._waiting = left
        return done

    def give_up(self) -> None:
        """Stop waiting for everything that is left."""
        for entry in self._waiting:
            self._give_up(entry)
        self._waiting = []

    def _give_up(self, entry: DeferredMetrics) -> None:
        self._release(entry)
        self.given_up.append(entry)

    def _release(self, entry: DeferredMetrics) -> None:
        self._keys -= Counter(entry.keys)
