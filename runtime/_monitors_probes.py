"""Reads probes one by one, each isolated: one that fails is named once and left out.

A probe gives numbers about the machine; a source finds probes, at once or when there is something
to probe. Both are called on a monitor's own thread, where they may take their time.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from runtime._metrics import error_text

log = logging.getLogger("runtime")


@dataclass(frozen=True, slots=True)
class Probe:
    """One kind of reading.

    Attributes:
        name: What it reads, for messages.
        read: Gives numbers by metric; none while there is nothing to say.
    """

    name: str
    read: Callable[[], dict[str, float]]


class Source(Protocol):
    """Finds probes.

    Attributes:
        name: What its probes read, for messages.
    """

    @property
    def name(self) -> str:
        """What its probes read."""
        ...

    def find(self) -> Iterable[Probe]:
        """Probes that were not returned before; asked before each reading.

        Raises:
            ImportError: A package that it needs is not installed.
        """
        ...


class Probes:
    """Every probe of some sources.

    Args:
        sources: Where they come from. One that raises is left out like a probe that does.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = list(sources)
        self._probes: list[Probe] = []

    def find(self) -> None:
        """Ask every source for new probes."""
        for source in list(self._sources):
            try:
                self._probes.extend(source.find())
            except ImportError as error:
                self._sources.remove(source)
                log.warning(
                    "%s are left out: %s is not installed; pip install 'hotloop[monitors]'",
                    source.name,
                    error.name,
                )
            except Exception as error:  # noqa: BLE001 - a driver may fail in any way
                self._sources.remove(source)
                log.warning("%s are left out: %s", source.name, error_text(error))

    def read(self) -> dict[str, float]:
        """The numbers of every probe that works."""
        self.find()
        found: dict[str, float] = {}
        for probe in list(self._probes):
            try:
                found.update(probe.read())
            except Exception as error:  # noqa: BLE001 - a driver may fail in any way
                self._probes.remove(probe)
                log.warning("%s is no longer read: %s", probe.name, error_text(error))
        return found
