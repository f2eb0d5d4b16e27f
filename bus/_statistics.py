"""What a bus measured about itself: counts that add up, latencies, its share of a core."""

import bisect
from dataclasses import dataclass, field
from typing import Final

from bus._sink_account import SinkAccount

_BOUNDS: Final = tuple(round(100 * 1.12**power) for power in range(160))
"""Upper bounds in nanoseconds, 12 % apart, from 0.1 us to several seconds."""


class LatencyHistogram:
    """Counts durations in buckets 12 % apart; used by one thread, read by any."""

    def __init__(self) -> None:
        self.count: int = 0
        self._counts = [0] * (len(_BOUNDS) + 1)

    def add(self, nanoseconds: int) -> None:
        """Count one duration."""
        self._counts[bisect.bisect_left(_BOUNDS, nanoseconds)] += 1
        self.count += 1

    def quantile_us(self, share: float) -> float:
        """The duration in microseconds below which this share of them lies, to 12 %; 0 if none."""
        counts = self._counts.copy()
        left = share * sum(counts)
        for bound, count in zip((*_BOUNDS, _BOUNDS[-1]), counts, strict=True):
            left -= count
            if count and left <= 0:
                return bound / 1000
        return 0.0


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    """One subscriber's account: offered = delivered + skipped + dropped + pending.

    Attributes:
        offered: Events of its types since it subscribed.
        delivered: Those it received.
        skipped: Those its filters kept from it.
        dropped: Those lost, by reason.
        pending: Those waiting in its buffer.
        failures: Times it raised.
        blocked_seconds: The longest it held the event loop, if that was noticed.
    """

    offered: int
    delivered: int
    skipped: int
    dropped: dict[str, int]
    pending: int
    failures: int
    blocked_seconds: float


@dataclass(frozen=True, slots=True)
class DeciderStatistics:
    """One decider's account: how often it answered in time, was late, or raised."""

    answered: int
    late: int
    failures: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a bus has done so far.

    Attributes:
        published: Events offered to it, dropped ones included.
        journalled: Lines appended to the journal, gaps included.
        pending: Events on their way to the journal, those waiting for a device included.
        device_pending: Events waiting for values from a device.
        dropped: Events lost, by reason; each loss is a `Gap` in the journal.
        unshown: Events that are in the journal but that a full queue kept from live subscribers;
            only with `durability="write"`.
        rejected: Values that could not be logged, by metric name: why.
        rejected_count: How many values that were.
        subscribers: Each live subscriber's account.
        deciders: Each decider's account.
        blockers: Who held the event loop, where, for how many seconds at most.
        publish_samples: Calls of `run.log` that were timed, ten a second at most.
        publish_p50_us: Median time of such a call on the publishing thread, to 12 %.
        publish_p99_us: 99th percentile of it.
        lag_seconds: Age of the oldest event in the latest batch when it had been written.
        writer_cpu_seconds: CPU time of the writer thread.
        live_cpu_seconds: CPU time of the loop thread, users' coroutines included.
        cpu_share: Share of one core that both took together since the start.
        disk_error: Why the journal cannot be written at the moment; None if it can.
        sinks: What each destination has got, by name.
    """

    published: int = 0
    journalled: int = 0
    pending: int = 0
    device_pending: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    unshown: int = 0
    rejected: dict[str, str] = field(default_factory=dict[str, str])
    rejected_count: int = 0
    subscribers: dict[str, SubscriberStatistics] = field(
        default_factory=dict[str, SubscriberStatistics]
    )
    deciders: dict[str, DeciderStatistics] = field(default_factory=dict[str, DeciderStatistics])
    blockers: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    publish_samples: int = 0
    publish_p50_us: float = 0.0
    publish_p99_us: float = 0.0
    lag_seconds: float = 0.0
    writer_cpu_seconds: float = 0.0
    live_cpu_seconds: float = 0.0
    cpu_share: float = 0.0
    disk_error: str | None = None
    sinks: dict[str, SinkAccount] = field(default_factory=dict[str, SinkAccount])

    @property
    def dropped_count(self) -> int:
        """Events lost, for whatever reason."""
        return sum(self.dropped.values())

    def as_metrics(self) -> dict[str, float]:
        """The numbers that `RunEnded` carries."""
        return {
            "published": float(self.published),
            "journalled": float(self.journalled),
            "dropped": float(self.dropped_count),
            "rejected_values": float(self.rejected_count),
            "publish_p50_us": self.publish_p50_us,
            "publish_p99_us": self.publish_p99_us,
            "publish_samples": float(self.publish_samples),
            "writer_cpu_seconds": self.writer_cpu_seconds,
            "live_cpu_seconds": self.live_cpu_seconds,
            "cpu_share": self.cpu_share,
        }
