"""`Logs`, a dictionary of logged numbers of which some may still be on a device.

Copies share what is on its way, so that one arrival serves them all; the same arrival can serve
the bus too. Whatever Python itself does with a dictionary sees plain numbers. Code in C that reads
a dictionary's storage past its methods (orjson, pydantic) finds a marker that it refuses, never a
wrong number; give it `dict(logs)`.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar, cast, overload

from bus import DeviceValues

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_values

DefaultT = TypeVar("DefaultT")

_PAUSE: Final = 0.0002
"""Seconds between two looks at a device that somebody waits for."""


class SharedValues:
    """Numbers on their way from a device, for several readers; itself a `bus.DeviceValues`.

    Args:
        source: Where they come from; its `values` is called once, however many ask.
    """

    def __init__(self, source: DeviceValues) -> None:
        self._source = source
        # The training thread and the bus's writer may ask at the same moment.
        self._reading = threading.Lock()
        self._found: dict[str, float] | None = None

    def ready(self) -> bool:
        """Whether they have arrived; never waits."""
        return self._found is not None or self._source.ready()

    def values(self) -> dict[str, float]:
        """The numbers by name, once `ready` was true."""
        with self._reading:
            if self._found is None:
                self._found = self._source.values()
        return self._found

    def wait(self) -> dict[str, float]:
        """The numbers by name, as soon as they have arrived.

        Takes as long as the device does, as reading a tensor would; Ctrl-C ends it.
        """
        while not self.ready():
            time.sleep(_PAUSE)
        return self.values()


class _Late:
    """Stands in a dictionary's storage for a number that has not been fetched."""

    def __repr__(self) -> str:
        return "<on the device; look at it through the dictionary's methods>"


_LATE: Final = cast("float", _Late())


class Logs(dict[str, float]):
    """Numbers by name, yielded as plain floats however they are looked at.

    Looking at a number that is still on the device waits for it; writing, deleting, asking for
    the names, `ready` and `copy` never do. Names keep their order.

    Args:
        host: What is known already.
        device: What is on its way.
        order: All names in their order; those that `host` lacks are the device's. By default
            there are none beside the host's.
    """

    def __init__(
        self,
        host: "Mapping[str, float] | Iterable[tuple[str, float]]" = (),
        *,
        device: DeviceValues | None = None,
        order: Iterable[str] = (),
    ) -> None:
        known = dict(host)
        super().__init__((name, known.get(name, _LATE)) for name in order)
        super().update(known)
        self._device = SharedValues(device) if device is not None else None

    def ready(self) -> bool:
        """Whether looking at any of the numbers would not wait."""
        return self._device is None or self._device.ready()

    @property
    def late(self) -> DeviceValues | None:
        """Where the numbers come from that have not arrived yet; None if all are here."""
        return None if self.ready() else self._device

    def known(self) -> dict[str, float]:
        """The numbers that need not be waited for."""
        pairs = zip(self, super().values(), strict=True)
        return {name: value for name, value in pairs if value is not _LATE}

    def copy(self) -> "Logs":
        """A copy that can be changed on its own; waits for nothing."""
        twin = Logs()
        dict[str, float].update(twin, zip(self, super().values(), strict=True))
        twin._device = self._device
        return twin

    def _fetch(self) -> None:
        """Put the device's numbers in the place of their markers."""
        device = self._device
        if device is None:
            return
        found = device.wait()
        for name, value in zip(list(self), list(super().values()), strict=True):
            if value is _LATE:
                super().__setitem__(name, found[name])
        # Only now, so that another reader of this object never meets a marker.
        self._device = None

    def __getitem__(self, name: str) -> float:
        value = super().__getitem__(name)
        if value is _LATE:
            self._fetch()
            return super().__getitem__(name)
        return value

    # Iterating in Python is what keeps `dict(logs)` and `**logs` from copying the storage as it
    # is: CPython does so for each subclass that leaves `__iter__` alone.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    @overload
    def get(self, name: str, default: None = None, /) -> float | None: ...
    @overload
    def get(self, name: str, default: float, /) -> float: ...
    @overload
    def get(self, name: str, default: DefaultT, /) -> float | DefaultT: ...
    def get(self, name: str, default: object = None, /) -> object:
        if name not in self:
            return default
        return self[name]

    def items(self) -> "dict_items[str, float]":
        """A view of names and numbers."""
        self._fetch()
        return super().items()

    def values(self) -> "dict_values[str, float]":
        """A view of the numbers."""
        self._fetch()
        return super().values()

    @overload
    def pop(self, name: str, /) -> float: ...
    @overload
    def pop(self, name: str, default: float, /) -> float: ...
    @overload
    def pop(self, name: str, default: DefaultT, /) -> float | DefaultT: ...
    def pop(self, name: str, /, *default: object) -> object:
        """Remove a name and return its number."""
        if name in self:
            value = self[name]
            del self[name]
            return value
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, float]:
        """Remove the last name and return it with its number."""
        self._fetch()
        return super().popitem()

    def setdefault(self, name: str, default: float, /) -> float:
        """The number of a name, which becomes the default if it is missing."""
        if name not in self:
            self[name] = default
        return self[name]

    def __or__(self, other: object) -> dict[str, float]:  # type: ignore[override]  # a plain one
        if not isinstance(other, dict):
            return NotImplemented
        return dict(self) | cast("dict[str, float]", other)

    def __ror__(self, other: object) -> dict[str, float]:  # type: ignore[override]  # a plain one
        if not isinstance(other, dict):
            return NotImplemented
        return cast("dict[str, float]", other) | dict(self)

    def __eq__(self, other: object) -> bool:
        self._fetch()
        if isinstance(other, Logs):
            other._fetch()  # the comparison in C reads its storage
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        self._fetch()
        return super().__repr__()

    def __copy__(self) -> "Logs":
        return self.copy()

    def __reduce__(self) -> tuple[type["Logs"], tuple[dict[str, float]]]:
        return Logs, (dict(self),)
