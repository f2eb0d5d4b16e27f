"""What an answer of an MLflow server means; several of its status codes say less than its words.

```
RejectedError
├── AlreadyStoredError       some of these points are there from an earlier try
├── ParameterChangedError    a parameter has another value, which never can be replaced
└── ArtifactsDisabledError   the server does not store files for its clients
```

Only the beginning of an answer is known here, so it is searched and not parsed.
"""

import re
from typing import Final

from bus import DeliveryError, MisconfiguredError, RejectedError, Response, UnavailableError


class AlreadyStoredError(RejectedError):
    """At least one point of the request is stored already.

    Servers before 3.10 answer so when a request is repeated that has more than 100 keys or a NaN,
    and store nothing of it.
    """


class ParameterChangedError(RejectedError):
    """A parameter of the request was logged with another value."""


class ArtifactsDisabledError(RejectedError):
    """The server was started with `--no-serve-artifacts`."""


_CODE: Final = re.compile(r'"error_code"\s*:\s*"([A-Z_]+)"')
_STORED: Final = re.compile(r"UNIQUE constraint failed: metrics|duplicate key|metric_pk|1062")
_PLACE: Final = re.compile(r"(metrics|params|tags)\[(\d+)\]")
_BUSY: Final = frozenset({"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})
_PERMANENT: Final = frozenset(
    {"INVALID_STATE", "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "NOT_IMPLEMENTED"}
)


def classify(response: Response) -> DeliveryError | None:
    """What an answer means where the service disagrees with the default; None where it does not."""
    if response.status < 400:
        return None
    words = response.text
    found = _CODE.search(words)
    code = found[1] if found else ""
    message = f"HTTP {response.status}: {' '.join(words.split())[:500]}"
    if response.status == 503 and ("Artifact serving" in words or "serve-artifacts" in words):
        return ArtifactsDisabledError(message)
    if "Changing param values" in words:  # a file store says so with status 500
        return ParameterChangedError(message)
    if response.status == 400 and _STORED.search(words):
        return AlreadyStoredError(message)
    if code in _BUSY:
        return UnavailableError(message)
    return _somebody_acts(response.status, message, words) or (
        RejectedError(message) if response.status >= 500 and code in _PERMANENT else None
    )


def _somebody_acts(status: int, message: str, words: str) -> MisconfiguredError | None:
    if "must be in the 'active' state" in words:
        return MisconfiguredError(message, fix="restore what was deleted in MLflow")
    if status == 403 and "Invalid Host header" in words:
        return MisconfiguredError(message, fix="start the server with --allowed-hosts")
    return None


def named(error: RejectedError) -> tuple[str, int] | None:
    """Which item of a request the server named: its list and its place there."""
    found = _PLACE.search(str(error))
    return (found[1], int(found[2])) if found else None
