"""How a bus trades latency, safety and memory, and which settings make no sense."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bus._inbox import OnFull

Durability: TypeAlias = Literal["interval", "write"]
"""Who writes the journal: the writer thread every interval, or the publisher itself."""

Deliver: TypeAlias = Literal["thread", "process"]
"""Where sinks are served: on the loop thread, or in processes of their own."""

Ranks: TypeAlias = Literal["zero", "all"]
"""Which ranks of a job: the first alone, or each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOptions:
    """How a bus trades latency, safety and memory.

    Attributes:
        flush_interval: Seconds that an event may wait in memory before it is written.
        durability: Whether the writer thread journals ("interval") or the publishing thread itself
            ("write": host values are in the file when publishing returns).
        fsync: Seconds between syncs to disk, against power loss; None leaves it to the system.
        on_full: What a full queue does: the oldest event makes room, or the publisher waits.
        queue_events: Events that may wait for the writer.
        queue_bytes: What heavy events among them may occupy.
        device_events: Events that may wait for values from a device.
        buffer_bytes: Encoded events kept in memory while the disk refuses.
        segment_bytes: Size at which a journal file is closed and the next one opened.
        quota_bytes: Journal size beyond which the oldest files are unlinked; None for never.
        deliver: Whether sinks are served on the loop thread ("thread") or by processes of their own
            ("process"), which cost a launch-bound step nothing.
    """

    flush_interval: float = 0.05
    durability: Durability = "interval"
    fsync: float | None = None
    on_full: OnFull = "drop_oldest"
    queue_events: int = 65_536
    queue_bytes: int = 64 << 20
    device_events: int = 65_536
    buffer_bytes: int = 16 << 20
    segment_bytes: int = 64 << 20
    quota_bytes: int | None = None
    deliver: Deliver = "thread"

    def __post_init__(self) -> None:
        if not 0.001 <= self.flush_interval <= 60:
            raise ValueError(f"flush_interval={self.flush_interval} must be 0.001 to 60 seconds")
        if self.durability not in ("interval", "write"):
            raise ValueError(f'durability={self.durability!r} must be "interval" or "write"')
        if self.deliver not in ("thread", "process"):
            raise ValueError(f'deliver={self.deliver!r} must be "thread" or "process"')
        if self.on_full not in ("drop_oldest", "block"):
            raise ValueError(f'on_full={self.on_full!r} must be "drop_oldest" or "block"')
        if self.fsync is not None and self.fsync <= 0:
            raise ValueError(f"fsync={self.fsync} must be seconds above 0, or None")
        sizes = ("queue_events", "queue_bytes", "device_events", "buffer_bytes", "segment_bytes")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
