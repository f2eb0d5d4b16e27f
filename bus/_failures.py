"""What it means when a destination does not take a batch, and how long to wait before the next try.

```
DeliveryError
├── UnavailableError     nobody is there, or too much is asked: wait and send the same again
│   └── HeldBackError    part of the batch has to wait; what comes behind it need not
├── RejectedError        the destination read it and says no: it never will take it
└── MisconfiguredError   nothing can be delivered before somebody changes a setting
```

Anything else that a sink raises is a bug in it.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from bus._errors import BusError


class DeliveryError(BusError):
    """A destination did not take what it was sent."""


class UnavailableError(DeliveryError):
    """The destination cannot be reached, or does not want more at the moment.

    Attributes:
        retry_after: Seconds it asked to be left alone, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeldBackError(UnavailableError):
    """Part of a batch has to wait for `retry_after` seconds; what stands behind it need not.

    The batch comes again, meanwhile longer by what has been journalled behind it. What of it is
    there already has to stand in the state that the sink has committed, with a count of 0.
    """


class RejectedError(DeliveryError):
    """The destination will never take (a part of) what it was sent.

    Attributes:
        guilty: Which records of the batch it named, by their index; empty if it did not say.
    """

    def __init__(self, message: str, *, guilty: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.guilty = guilty


class MisconfiguredError(DeliveryError):
    """Somebody has to change a setting first.

    Attributes:
        fix: What to do, in a sentence.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(f"{message}; {fix}" if fix else message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered, as far as deciding about it needs.

    Attributes:
        status: The HTTP status code.
        headers: Names in lower case.
        text: The beginning of the body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str = ""


_UNAVAILABLE = frozenset({408, 425, 429})
_MISCONFIGURED = {
    401: "check the credentials",
    403: "check what these credentials may do",
    404: "check the address",
}


def classify(response: Response, *, now: float) -> DeliveryError | None:
    """What an answer means by default; None when it is good.

    Args:
        response: The answer.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    status = response.status
    if status < 400:
        return None
    words = " ".join(response.text.split())[:500]
    message = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if status in _MISCONFIGURED:
        return MisconfiguredError(message, fix=_MISCONFIGURED[status])
    if status in _UNAVAILABLE or status >= 500:
        return UnavailableError(message, retry_after=retry_after(response.headers, now=now))
    return RejectedError(message)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that a server asked to wait; RFC 9110 section 10.2.3 allows seconds or a date.

    Args:
        headers: Names in lower case.
        now: Unix seconds.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter.

    The wait before the n-th retry is uniform between 0 and min(ceiling, first * 2**n), which
    spreads clients that failed together best (Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes:
        first: Upper bound of the first wait in seconds.
        ceiling: Upper bound of every wait in seconds.
        longest_wish: How long a server's own wish is obeyed, in seconds.
    """

    first: float = 0.5
    ceiling: float = 60.0
    longest_wish: float = 3600.0

    def delay(
        self,
        failures: int,
        *,
        wish: float | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> float:
        """Seconds to wait after so many failures in a row, 1 or more; never less than the wish."""
        bound = min(self.ceiling, self.first * 2.0 ** min(failures - 1, 32))
        waited = uniform(0.0, bound)
        return waited if wish is None else min(wish, self.longest_wish) + waited
