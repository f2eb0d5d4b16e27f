"""What closing a bus came to."""

from dataclasses import dataclass

from bus._sink_account import SinkAccount


@dataclass(frozen=True, slots=True)
class Account:
    """How closing went.

    Attributes:
        written: Whether everything published is in the journal.
        unwritten: Events that are not, because the disk refused or did not answer.
        unread: Events that subscribers had not read, by subscriber.
        abandoned: Subscribers that were still busy when the time was over.
        seconds: How long closing took.
        sinks: What each sink got.
    """

    written: bool
    unwritten: int
    unread: dict[str, int]
    abandoned: tuple[str, ...]
    seconds: float
    sinks: tuple[SinkAccount, ...] = ()
