"""Metrics, and other events, whose values are still on their way from a device.

They wait here, overtaken by every host event, so that a device that never answers holds up
nothing. Within a metric's series the order is kept: a later value of a waiting key waits behind it.
"""

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from bus._event import Event

log = logging.getLogger("bus")

_MISSES: Final = 256  # a poll costs about a microsecond


@runtime_checkable
class DeviceValues(Protocol):
    """Numbers that a device is copying to the host."""

    def ready(self) -> bool:
        """Whether they have arrived. Called by the writer thread; never waits, never raises."""
        ...

    def values(self) -> dict[str, float]:
        """The numbers by metric, once `ready` was true; called once."""
        ...


@runtime_checkable
class DeviceEvent(Protocol):
    """One event whose values a device is copying to the host."""

    def ready(self) -> bool:
        """Whether they have arrived. Called by the writer thread; never waits, never raises."""
        ...

    def event(self) -> Event:
        """The event, once `ready` was true; called once, by the writer thread."""
        ...


@dataclass(slots=True, eq=False)
class DeferredMetrics:
    """A call of `run.log` with tensors.

    Attributes:
        time: When it was made, in Unix seconds.
        host: What was known at once.
        keys: Every key it will have, host and device.
        device: The rest, on its way; None if it waits only for its turn in a series.
        behind: In how many of its series an older value is waiting; kept by `SideQueue`.
    """

    time: float
    step: int | None
    host: dict[str, float]
    keys: frozenset[str]
    device: DeviceValues | None
    behind: int = 0

    def arrival(self) -> "Arrival":
        """What it has become."""
        late = self.device.values() if self.device is not None else {}
        return Arrival(self.time, self.step, {**self.host, **late})


@dataclass(slots=True, eq=False)
class DeferredEvent:
    """An event that a device still has the values of.

    Attributes:
        time: When it was made, in Unix seconds.
        keys: The series whose order it keeps; no metric's name.
        device: The event, on its way.
        behind: In how many of its series an older one is waiting; kept by `SideQueue`.
    """

    time: float
    keys: frozenset[str]
    device: DeviceEvent
    behind: int = 0

    def arrival(self) -> Event:
        """What it has become."""
        return self.device.event()


Deferred: TypeAlias = DeferredMetrics | DeferredEvent


@dataclass(frozen=True, slots=True)
class Arrival:
    """Metrics that are complete."""

    time: float
    step: int | None
    metrics: dict[str, float]


class SideQueue:
    """Holds what is deferred until it arrives; used by the writer thread alone.

    Only entries that are the oldest in each of their series are polled, so that a look costs as
    much as there are series, however many entries wait behind them.

    Args:
        limit: Entries that may wait; beyond it the oldest is given up.
    """

    def __init__(self, limit: int) -> None:
        self.given_up: list[Deferred] = []
        self._limit = limit
        self._waiting: OrderedDict[Deferred, None] = OrderedDict()
        self._series: dict[str, deque[Deferred]] = {}
        self._front: deque[Deferred] = deque()
        self._failed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def blocks(self, metrics: dict[str, float]) -> bool:
        """Whether one of these keys has an older value that has not arrived."""
        return bool(self._series) and not self._series.keys().isdisjoint(metrics)

    def add(self, entry: Deferred) -> None:
        """Let an entry wait for its device and for its turn."""
        self._waiting[entry] = None
        for key in entry.keys:
            series = self._series.setdefault(key, deque())
            entry.behind += bool(series)
            series.append(entry)
        if not entry.behind:
            self._front.append(entry)
        if len(self._waiting) > self._limit:
            self._give_up(next(iter(self._waiting)))

    def arrived(self) -> "list[Arrival | Event]":
        """Remove and return what is complete and not behind an older value of its own series."""
        done: list[Arrival | Event] = []
        misses = 0
        # Who was asked in vain goes to the end of the line; in front are those not asked yet.
        while misses < min(_MISSES, len(self._front)):
            entry = self._front.popleft()
            if entry not in self._waiting:
                continue  # given up
            try:
                if entry.device is not None and not entry.device.ready():
                    misses += 1
                    self._front.append(entry)
                    continue
                arrival = entry.arrival()
            except Exception as error:  # noqa: BLE001 - a device may fail in any way
                self._note_failure(error)
                self._give_up(entry)
                continue
            self._release(entry)
            done.append(arrival)
        return done

    def give_up(self) -> None:
        """Stop waiting for devices; what waited only for its turn arrives with the next look."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._series.clear()
        self._front.clear()
        for entry in waiting:
            entry.behind = 0
            if entry.device is None or self._has_answered(entry.device):
                self.add(entry)
            else:
                self.given_up.append(entry)

    def _has_answered(self, device: DeviceValues | DeviceEvent) -> bool:
        try:
            return device.ready()
        except Exception as error:  # noqa: BLE001 - a device may fail in any way
            self._note_failure(error)
            return False

    def _note_failure(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            log.warning("metrics are lost because their device failed", exc_info=error)

    def _give_up(self, entry: Deferred) -> None:
        self._release(entry)
        self.given_up.append(entry)

    def _release(self, entry: Deferred) -> None:
        """Take the oldest entry of its series out of them and let who is behind it move up."""
        del self._waiting[entry]
        for key in entry.keys:
            series = self._series[key]
            series.popleft()
            if not series:
                del self._series[key]
                continue
            series[0].behind -= 1
            if not series[0].behind:
                self._front.appendleft(series[0])
