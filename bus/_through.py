"""The way in of `durability="write"`: the publishing thread itself journals what it publishes."""

from collections.abc import Callable

from bus._event import Event, encode
from bus._inbox import Inbox, Journalled, MetricsDraft
from bus._interrupts import deferred_interrupt
from bus._journal import Journal


class WriteThrough:
    """Writes at once; what cannot be written now takes the writer thread's way.

    Ctrl-C waits until what was written is accounted for, or it would be written again.

    Args:
        encode_draft: Encodes metrics; None if nothing is left of them.
    """

    def __init__(
        self,
        inbox: Inbox,
        journal: Journal,
        encode_draft: Callable[[MetricsDraft], bytes | None],
    ) -> None:
        self._inbox = inbox
        self._journal = journal
        self._encode_draft = encode_draft

    def put_event(self, event: Event) -> bool:
        """Write an event and show it around; tell whether that could be done."""
        if not event.durable or self._inbox.closed:
            return False
        try:
            encoded = encode(event)
        except Exception:  # noqa: BLE001 - the writer meets it again and counts it
            return False
        with deferred_interrupt():
            if not self._write(encoded, event.time, keep=event.lifecycle):
                return False
            self._inbox.put(Journalled(event))
        if event.urgent:
            self._inbox.wake.set()
        return True

    def put_draft(self, draft: MetricsDraft) -> int:
        """Write metrics and show them around; return their number, 0 if nothing is left."""
        if self._inbox.closed:
            return self._inbox.put(draft)
        encoded = self._encode_draft(draft)
        if encoded is None:
            return 0
        with deferred_interrupt():
            if not self._write(encoded, draft[0]):
                return self._inbox.put(draft)
            return self._inbox.put(Journalled(draft))

    def _write(self, encoded: bytes, made: float, *, keep: bool = False) -> bool:
        with self._journal.lock:
            return not self._inbox.closed and self._journal.write_through(encoded, made, keep=keep)
