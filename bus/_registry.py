"""Which destinations there are, by name, and what stands between each and being used.

Names come from the entry-point group `hotloop.sinks`, such as

    [project.entry-points."hotloop.sinks"]
    csv-server = "my_package.sinks:CsvServer"
    dvclive = "my_package.sinks:DvcLive [dvclive]"

where the extra in brackets names the requirements that must be installed for it. Looking at a sink
reads metadata and never imports a vendor's library.
"""

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Final, Literal, TypeAlias

from bus._errors import BusError
from bus._sink import Sink
from bus._sink_settings import NotConfiguredError

GROUP: Final = "hotloop.sinks"

Readiness: TypeAlias = Literal["missing", "not configured", "ready"]
ReportTo: TypeAlias = "str | Sink | Sequence[str | Sink] | None"
"""Where to deliver: names, sinks, `"all"` that are ready, or nowhere."""

_UPSTREAM: Final = {"comet_ml": "comet"}
"""What Transformers' `report_to` calls a destination that has another name here."""

_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9._-]+)")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_PYTHON: Final = re.compile(r"""python_version\s*([<>=!~]+)\s*['"]([^'"]+)['"]""")


class UnknownSinkError(BusError, LookupError):
    """No destination has this name.

    Attributes:
        name: The name.
        known: Those there are.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no sink {name!r}; there are {', '.join(known) or 'none'}")
        self.name = name
        self.known: tuple[str, ...] = tuple(known)


class MissingPackageError(BusError, ImportError):
    """A destination needs packages that are not installed.

    Attributes:
        sink: Its name.
        command: What installs them.
    """

    def __init__(self, sink: str, command: str, why: str = "") -> None:
        super().__init__(f"{sink} needs more packages: {command}" + (f" ({why})" if why else ""))
        self.sink = sink
        self.command = command


@dataclass(frozen=True, slots=True)
class SinkInfo:
    """What is known of a destination without using it.

    Attributes:
        name: Its name.
        target: Where its class is, as "module:Class".
        readiness: Whether it can be used.
        why: What to do if it cannot.
        summary: What it is, in its docstring's first line; "" if it could not be imported.
        delivery: What it promises; "" if it could not be imported.
    """

    name: str
    target: str
    readiness: Readiness
    why: str = ""
    summary: str = ""
    delivery: str = ""


class SinkRegistry:
    """Sinks by name: those registered here, then those that installed packages offer."""

    def __init__(self) -> None:
        self._registered: dict[str, type[Sink] | str] = {}

    def register(self, name: str, sink: type[Sink] | str) -> None:
        """Give a sink a name in this process; a later one of the same name replaces it.

        Args:
            name: As in `report_to` and `sinks=[...]`.
            sink: Its class, or where that is, as "module:Class".
        """
        if not isinstance(sink, str) and not (isinstance(sink, type) and issubclass(sink, Sink)):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise TypeError(f"{sink!r} is neither a subclass of bus.Sink nor 'module:Class'")
        self._registered[name] = sink

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted({*self._registered, *self._offered()})

    def installed(self) -> frozenset[str]:
        """Those that every process finds, such as a command: installed packages offer them."""
        return frozenset(self._offered())

    def load(self, name: str) -> type[Sink]:
        """The class of a sink; `comet_ml`, as Transformers says, is `comet`.

        Raises:
            UnknownSinkError: There is none of that name.
            MissingPackageError: It needs packages that are not installed.
        """
        name = self._here(name)
        registered = self._registered.get(name)
        if isinstance(registered, type):
            return registered
        offered = self._offered().get(name)
        target = registered or (offered.value.split("[")[0].strip() if offered else None)
        if target is None:
            raise UnknownSinkError(name, self.names())
        if offered is not None and (missing := _missing(offered)):
            package = missing[0].split(";")[0].strip()
            raise MissingPackageError(name, _install(offered, missing), f"not installed: {package}")
        module, _, attribute = target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise MissingPackageError(name, "pip install hotloop", str(error)) from error
        if not (isinstance(found, type) and issubclass(found, Sink)):
            raise TypeError(f"{target} is no subclass of bus.Sink")
        return found

    def look(self, name: str) -> SinkInfo:
        """Whether a sink can be used, and what to do if not."""
        name = self._here(name)
        offered = self._offered().get(name)
        registered = self._registered.get(name)
        if isinstance(registered, type):
            target = f"{registered.__module__}:{registered.__qualname__}"
        else:
            target = registered or (offered.value if offered else "")
        try:
            kind = self.load(name)
        except MissingPackageError as error:
            return SinkInfo(name, target, "missing", error.command)
        summary = (kind.__doc__ or "").strip().split("\n")[0]
        try:
            kind()
        except NotConfiguredError as error:
            why = "; ".join(error.problems) + (f". {error.help}" if error.help else "")
            return SinkInfo(name, target, "not configured", why, summary, kind.promise.delivery)
        return SinkInfo(name, target, "ready", "", summary, kind.promise.delivery)

    def make(self, wanted: ReportTo) -> "tuple[list[Sink], list[SinkInfo]]":
        """Sinks for what a user asks for.

        Args:
            wanted: "all" for every one that is ready, "none", a name, a sink, or several of them.

        Returns:
            The sinks, and what stands in the way of others: for "all" of each that is not ready,
            of those that were named if settings switch them off.

        Raises:
            UnknownSinkError: There is none of a name.
            MissingPackageError: One that was named needs packages.
            NotConfiguredError: One that was named lacks settings.
        """
        if wanted is None or wanted == "none":
            return [], []
        if wanted == "all":
            return self._make_all()
        each_wanted: Iterable[str | Sink] = [wanted] if isinstance(wanted, (str, Sink)) else wanted
        sinks: list[Sink] = []
        others: list[SinkInfo] = []
        for each in each_wanted:
            try:
                sinks.append(each if isinstance(each, Sink) else self.load(each)())
            except NotConfiguredError as error:
                if not error.switched_off:
                    raise
                others.append(self.look(error.sink))
        return sinks, others

    def _here(self, name: str) -> str:
        """The name that a sink has here, also if Transformers' is given."""
        # Looking for names goes through everything that is installed, so it is done last.
        return _UPSTREAM[name] if name in _UPSTREAM and name not in self.names() else name

    def _make_all(self) -> "tuple[list[Sink], list[SinkInfo]]":
        found = [self.look(name) for name in self.names()]
        kinds = {each.name: self.load(each.name) for each in found if each.readiness == "ready"}
        better = {general: name for name, kind in kinds.items() for general in kind.instead_of}
        sinks = [kind() for name, kind in kinds.items() if name not in better]
        others = [
            replace(each, why=f"{better[each.name]} writes to the same place")
            if each.name in better
            else each
            for each in found
            if each.name in better or each.readiness != "ready"
        ]
        return sinks, others

    def _offered(self) -> dict[str, metadata.EntryPoint]:
        return {point.name: point for point in metadata.entry_points(group=GROUP)}


def _missing(point: metadata.EntryPoint) -> list[str]:
    """What an entry point's extras require and is not installed, as its package words it."""
    if point.dist is None or not point.extras:
        return []
    missing: list[str] = []
    for requirement in point.dist.requires or ():
        extra = _EXTRA.search(requirement)
        name = _REQUIREMENT.match(requirement)
        if extra is not None and name is not None and extra[1] in point.extras:
            try:
                metadata.version(name[1])
            except metadata.PackageNotFoundError:
                missing.append(requirement)
    return missing


def _install(point: metadata.EntryPoint, missing: Sequence[str]) -> str:
    """The command; and for which Python, where a requirement is for none but some."""
    distribution = point.dist.name if point.dist is not None else "hotloop"
    command = f"pip install '{distribution}[{','.join(point.extras)}]'"
    python = _PYTHON.search(missing[0])
    return command if python is None else f"{command}, under Python {python[1]} {python[2]}"


SINKS: Final = SinkRegistry()
"""The registry of this process."""


def register_sink(name: str, sink: type[Sink] | str) -> None:
    """Give a sink a name in this process, for `sinks=[...]` and `report_to`."""
    SINKS.register(name, sink)
