"""What a delivery reports of itself."""

from dataclasses import dataclass

from bus._events import SinkStatus


@dataclass(frozen=True, slots=True)
class SinkAccount:
    """What a delivery has done.

    Attributes:
        name: The sink's.
        status: What it was at last.
        reason: Why, where there is something to say.
        url: Where a person can look at the run, if known.
        delivered: Records acknowledged, over all attempts.
        pending: Records that wait to be delivered; None if they could not be counted.
        dead: Records that the destination refused for good.
        superseded: Records replaced by a later attempt before they were sent.
        coalesced: Records left out because a later one tells the same; see `Sink.coalesces`.
        missing: Records that the journal's quota removed before they were sent.
        complete: Whether everything was delivered and the sink closed.
        waiting_since: When the oldest record of the batch under way was made, in Unix seconds; None
            if none is, or if another process delivers.
    """

    name: str
    status: SinkStatus = "opening"
    reason: str = ""
    url: str | None = None
    delivered: int = 0
    pending: int | None = None
    dead: int = 0
    superseded: int = 0
    coalesced: int = 0
    missing: int = 0
    complete: bool = False
    waiting_since: float | None = None
