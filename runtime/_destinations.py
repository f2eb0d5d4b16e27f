"""From what a user asks for to sinks."""

import logging
import os
from collections.abc import Iterable, Sequence
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


def job_sinks(chosen: "Sequence[Sink]") -> "list[Sink]":
    """The sink of the platform that runs the job, unless it is among the chosen ones.

    That is Kubeflow's in a TrainJob, which Transformers' trainer adds unasked, too. One that lacks
    a setting is left out, and the log says why.
    """
    asks = "KUBEFLOW_TRAINER_SERVER_URL" in os.environ
    if not asks or any(each.name == "kubeflow" for each in chosen):
        return []
    from bus import SINKS  # noqa: PLC0415 - few jobs pay for the registry

    found = SINKS.look("kubeflow")
    if found.readiness != "ready":
        log.warning("not reporting to kubeflow, which is %s: %s", found.readiness, found.why)
        return []
    return SINKS.make("kubeflow")[0]
