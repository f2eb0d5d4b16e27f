"""What an answer of Comet means; most refusals are HTTP 400 with a code of Comet's own.

```
UnavailableError
└── ThrottledError         too many of one kind in a minute
RejectedError
├── ExistsError            an experiment of this key is there
└── AlreadyThereError      an asset of this id is there
```

The codes are those that comet_ml 3.58.8 knows. Only the beginning of an answer is known here, so
it is searched and not parsed.
"""

import re
from typing import Final

from bus import DeliveryError, MisconfiguredError, RejectedError, Response, UnavailableError
from bus._failures import retry_after

KEYS: Final = "https://www.comet.com/account-settings/apiKeys"
"""Where a person gets an API key."""

_PAUSE: Final = 60.0
"""Seconds to wait after a 429 that names none, as Comet's client does."""
_MARGIN: Final = 0.5

_CODE: Final = re.compile(r'"sdk_error_code"\s*:\s*(\d+)')
_EXISTS: Final = 90999
_IMMUTABLE: Final = frozenset({7000005, 7000006})
_FIXES: Final = {
    90210: "check COMET_EXPERIMENT_KEY, COMET_WORKSPACE and what your account may write",
    90211: "check COMET_EXPERIMENT_KEY",
    90212: f"check COMET_API_KEY; keys are at {KEYS}",
    90219: "check COMET_WORKSPACE",
    90501: "the workspace is full: delete experiments, or name another COMET_WORKSPACE",
    90998: "check COMET_EXPERIMENT_KEY",
    98219: "set COMET_PROJECT_NAME",
    1341241: "choose a shorter COMET_PROJECT_NAME",
    34323: "it is a project for prompts: name another COMET_PROJECT_NAME",
    7000008: "a newer hotloop is needed",
    7000011: "your account may only view: ask for the right to write",
    7000020: "the project is full: delete experiments, or name another COMET_PROJECT_NAME",
    7000023: "this service account may not write there",
}


class ThrottledError(UnavailableError):
    """Comet wants no more for a while."""


class ExistsError(RejectedError):
    """An experiment was to be made whose key is taken."""


class AlreadyThereError(RejectedError):
    """An asset was uploaded whose id is taken: an earlier answer was lost."""


def classify(response: Response, *, now: float) -> DeliveryError | None:
    """What an answer means where Comet disagrees with the default; None where it does not.

    Args:
        response: The answer.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    if response.status < 400:
        return None
    message = f"HTTP {response.status}: {' '.join(response.text.split())[:500]}"
    if response.status == 429:
        return ThrottledError(message, retry_after=_pause(response, now))
    found = _CODE.search(response.text)
    code = int(found[1]) if found and response.status < 500 else 0
    if code == _EXISTS:
        return ExistsError(message)
    if code in _IMMUTABLE:
        return AlreadyThereError(message)
    return MisconfiguredError(message, fix=_FIXES[code]) if code in _FIXES else None


def _pause(response: Response, now: float) -> float:
    """Seconds to wait; Comet has a header of its own for it, a proxy in front may use the usual."""
    try:
        seconds = float(response.headers.get("retry-after-custom", ""))
    except ValueError:
        wished = retry_after(response.headers, now=now)
        return _PAUSE if wished is None else wished
    return seconds + _MARGIN if 0 <= seconds < float("inf") else _PAUSE
