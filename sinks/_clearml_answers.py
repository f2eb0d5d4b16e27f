"""What an answer of a ClearML server means; its own code says more than the status of HTTP.

```
RejectedError
└── TaskStateError    the task's state does not allow it
```
"""

import re
from typing import Final

from bus import DeliveryError, MisconfiguredError, RejectedError, Response


class TaskStateError(RejectedError):
    """The task is in a state in which this cannot be done; in another it can."""


_CODE: Final = re.compile(r'"result_subcode"\s*:\s*(\d+)')
_STATE: Final = 110
_NO_TASK: Final = 101


def classify(response: Response) -> DeliveryError | None:
    """What an answer means where the service disagrees with the default; None where it does not."""
    if response.status != 400:
        return None
    words = response.text
    message = f"HTTP 400: {' '.join(words.split())[:500]}"
    found = _CODE.search(words)
    code = int(found[1]) if found else 0
    if code == _NO_TASK or "Invalid task id" in words:
        return MisconfiguredError(message, fix="the task is gone; begin a new run")
    if "Task is locked" in words:
        return MisconfiguredError(message, fix="the task was published; begin a new run")
    return TaskStateError(message) if code == _STATE else None
