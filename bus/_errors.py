"""Every error this package raises to its callers.

```
BusError
├── EventDefinitionError  an Event subclass has no name of its own in the journal (definition)
├── DeviceValueError      a tensor was given where a host number belongs (construction)
├── LoggingError          strict runs only: a value cannot be logged (log)
├── ClosedError           the bus has ended and takes no more subscribers (subscribe, on)
├── DeadlockError         a decider awaited what only the waiting thread can do (await handle)
├── RunNotFoundError      a folder holds no run (resume, reading)
├── DecisionTimeoutError  a handle was not resolved in the time given (Handle.wait)
├── RanksError            the ranks of a run cannot agree on what happens next (safe_point, Run)
├── UnknownSinkError      no destination has this name (sinks=, report_to)
├── MissingPackageError   a destination needs packages that are not installed
├── NotConfiguredError    a destination lacks settings (making it)
├── StillOwnedError       another process that lives delivers to this sink (sync_run)
└── DeliveryError         what sinks raise, see bus._failures (resend_dead)
```

Publishing never raises any of them unless the run is strict.
"""

from collections.abc import Mapping
from pathlib import Path


class BusError(Exception):
    """Anything this package raises to its caller."""


class EventDefinitionError(BusError, TypeError):
    """An `Event` or `Request` subclass has no usable `type`."""


class DeviceValueError(BusError, TypeError):
    """A tensor or array stands where a host number belongs.

    It is a `TypeError` and not a `ValueError` so that pydantic lets it through unchanged.
    """


class LoggingError(BusError, ValueError):
    """A strict run was given values that cannot be logged.

    Attributes:
        reasons: What is wrong, by key.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        listed = "; ".join(f"{key!r}: {reason}" for key, reason in reasons.items())
        super().__init__(f"cannot be logged: {listed}")
        self.reasons: dict[str, str] = dict(reasons)


class ClosedError(BusError, RuntimeError):
    """The bus is closed; nothing can be registered on it any more."""


class DeadlockError(BusError, RuntimeError):
    """A decider awaited a handle that only the thread waiting for the decider can resolve."""


class DecisionTimeoutError(BusError, TimeoutError):
    """A handle was not resolved in the time its caller gave."""


class RanksError(BusError, RuntimeError):
    """The ranks of a run cannot agree: no answer of their store, or they are at other steps."""


class RunNotFoundError(BusError, FileNotFoundError):
    """A folder holds no run.

    Attributes:
        path: The folder that was looked at.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not a run: {why}")
        self.path = path
