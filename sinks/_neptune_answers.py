"""What an answer of a Neptune server means, and which of a request's operations it refused.

```
MisconfiguredError
└── AccessRefusedError   the access token is no good (any more): another one may be
```
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from bus import DeliveryError, MisconfiguredError, RejectedError, Response, UnavailableError


class AccessRefusedError(MisconfiguredError):
    """The server does not know the token."""


_TYPE: Final = re.compile(r'"errorType"\s*:\s*"([A-Za-z_]+)"')
_STORED: Final = re.compile(r"must be strictly increasing|must be non-decreasing", re.IGNORECASE)
_FIXES: Final = {
    "PROJECT_LIMITS_EXCEEDED": "make room in the project, or choose another one",
    "WORKSPACE_IN_READ_ONLY_MODE": "the workspace takes no data: see its subscription",
    "EXPERIMENT_NOT_FOUND": "check NEPTUNE_WITH_ID; the run may have been deleted",
    "PROJECT_NOT_FOUND": "check NEPTUNE_PROJECT",
}


def classify(response: Response) -> DeliveryError | None:
    """What an answer means where the service disagrees with the default; None where it does not."""
    if response.status < 400:
        return None
    words = " ".join(response.text.split())[:500]
    message = f"HTTP {response.status}: {words}" if words else f"HTTP {response.status}"
    found = _TYPE.search(response.text)
    code = found[1] if found else ""
    if response.status == 401 or code.startswith("AUTHORIZATION_TOKEN"):
        return AccessRefusedError(message, fix="check NEPTUNE_API_TOKEN")
    if code in _FIXES:
        return MisconfiguredError(message, fix=_FIXES[code])
    if response.status == 402:
        return MisconfiguredError(message, fix="see the workspace's subscription")
    if response.status == 409:
        return RejectedError(message)
    return None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation that was not applied while others of its request were.

    Attributes:
        kind: The server's name for what is wrong.
        words: Its words.
        stored: Whether the series has this step, or a later one, already.
    """

    kind: str
    words: str
    stored: bool


def refusals(answer: JsonValue) -> Iterator[Refusal]:
    """What a request of operations answers, which is 200 all the same.

    Raises:
        UnavailableError: This is no answer to operations.
    """
    if not isinstance(answer, list):
        raise UnavailableError("the answer is none of a Neptune server")
    for each in answer:
        error = each if isinstance(each, dict) else {}
        words = " ".join(str(error.get("errorDescription", each)).split())[:500]
        yield Refusal(str(error.get("errorType", "")), words, _STORED.search(words) is not None)
