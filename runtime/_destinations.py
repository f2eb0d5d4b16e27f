"""From what a user asks for to sinks."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus import ReportTo, Sink

log = logging.getLogger("runtime")


def choose_sinks(wanted: "ReportTo") -> "list[Sink]":
    """The sinks a user asks for; for "all", what stands in the way of each other one is logged.

    Raises:
        TypeError: It is nothing that names sinks.
        UnknownSinkError: No sink has this name.
        MissingPackageError: One that was named needs packages.
        NotConfiguredError: One that was named lacks settings.
    """
    if wanted is None or wanted in ("none", []):
        return []
    from bus import SINKS, Sink  # noqa: PLC0415 - a run without sinks does not pay for the registry

    if not isinstance(wanted, (str, Sink, Iterable)):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise TypeError(f"sinks={wanted!r} are none; pass a name, a bus.Sink, or a list of them")
    sinks, others = SINKS.make(wanted)
    for each in others:
        log.warning("not reporting to %s, which is %s: %s", each.name, each.readiness, each.why)
    return sinks
