"""What an exception of a sink means for its delivery."""

import logging
from collections.abc import Sequence
from typing import Final

from bus._failures import DeliveryError, MisconfiguredError, UnavailableError
from bus._secrets import log_error
from bus._sink import Sink

log = logging.getLogger("bus")

_TRIES_OF_A_BUG: Final = 5


class Verdicts:
    """Judges what a sink raises; a bug is logged once, and after five tries in a row suspended.

    Args:
        sink: Who raises.
        secrets: What must not be logged.
    """

    def __init__(self, sink: Sink, secrets: Sequence[str]) -> None:
        self._sink = sink
        self._secrets = secrets
        self._bugs = 0

    def on(self, error: BaseException) -> DeliveryError:
        """What to do about an exception: what it says itself, or what a bug deserves."""
        if isinstance(error, DeliveryError):
            return error
        if isinstance(error, TimeoutError):
            return UnavailableError(f"no answer in {self._sink.write_timeout:g} s")
        self._bugs += 1
        if self._bugs == 1:
            log_error(
                log, self._secrets, "sink %r raised; it is tried again", self._sink.name, error
            )
        words = f"{type(error).__name__}: {error}"
        if self._bugs > _TRIES_OF_A_BUG:
            self._bugs = 0
            return MisconfiguredError(f"the sink raised {words}", fix="this is a bug in it")
        return UnavailableError(f"the sink raised {words}")

    def forget(self) -> None:
        """Something went well: the next bug is a new one."""
        self._bugs = 0
