"""`BusHandler` turns records of Python's logging into events of a run.

```
import logging
from runtime.bridges.logging import BusHandler

with runtime.Run(name="gpt") as run:
    logging.getLogger().addHandler(BusHandler(run))
```
"""

import logging
import threading
import time
from typing import Final

from bus import Level, current_subscriber, mask_urls
from runtime._run import Run

__all__ = ["BusHandler"]

_OURS: Final = frozenset({"bus", "runtime", "sinks"})
_LEVELS: Final[tuple[tuple[int, Level], ...]] = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class BusHandler(logging.Handler):
    """Publishes each record as a `bus.MessageLogged`, with its level and its logger's name.

    What this library logs itself is left out, and so is what is logged by the clients that deliver
    to sinks: a line about a delivery would be delivered, and make the next one. Passwords in
    addresses are masked. Lines are cut, and where more come than a run can use, the rest is counted
    and told, so that a flood of them does not push metrics out of the queue. A run that has ended
    takes no more.

    Args:
        run: The run.
        level: The lowest level that is published.
        longest: Characters of a line, traceback included, beyond which it is cut.
        per_second: Lines a second, on average; ten seconds' worth may come at once.

    Attributes:
        left_out: Lines that were too many so far.

    Raises:
        ValueError: `longest` or `per_second` is not above 0.
    """

    def __init__(
        self,
        run: Run,
        level: int | str = logging.INFO,
        *,
        longest: int = 4000,
        per_second: float = 20.0,
    ) -> None:
        if longest < 1 or not per_second > 0:
            raise ValueError(
                f"longest={longest} and per_second={per_second} must be above 0; to publish less, "
                "raise the level"
            )
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._run = run
        self._longest = longest
        self._rate = per_second
        self._most = max(1.0, 10 * per_second)
        self._left = self._most
        self._filled_at = time.monotonic()
        self.left_out: int = 0
        self._untold = 0
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record, unless it is one of ours or there were too many; never raises."""
        if self._run.closed or getattr(self._busy, "now", False) or self._is_ours(record):
            return
        self._busy.now = True  # publishing may log, on this very thread
        try:
            if self._has_room():
                self._publish(record)
            else:
                self.left_out += 1
                self._untold += 1
        except Exception:  # noqa: BLE001 - what a record's arguments do is their own affair
            self.handleError(record)
        finally:
            self._busy.now = False

    @staticmethod
    def _is_ours(record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in _OURS:
            return True
        # A subscriber's own lines are its user's; all else on our threads is about deliveries.
        return (
            threading.current_thread().name.startswith("hotloop-") and not current_subscriber.get()
        )

    def _publish(self, record: logging.LogRecord) -> None:
        if self._untold:
            count, self._untold = self._untold, 0
            self._run.message(f"{count} lines of the log were left out", level="warning")
        text = mask_urls(self.format(record))
        if len(text) > self._longest:
            text = f"{text[: self._longest]}... ({len(text)} characters)"
        self._run.message(text, level=_level(record.levelno))

    def _has_room(self) -> bool:
        """Take one line's worth of what may be published, if there is any; under the lock."""
        now = time.monotonic()
        gained = (now - self._filled_at) * self._rate
        self._left = min(self._most, self._left + gained)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _level(number: int) -> Level:
    for least, name in _LEVELS:
        if number >= least:
            return name
    return "debug"
