"""Destinations of a run's events, one public module each; what those that speak HTTP are built on.

The destinations are found by name (`bus.SINKS`) and imported when they are used, so that a run
with one of them loads none of the others' clients. `HttpSink` is the base of a destination of
one's own, and `sinks.testing` shows whether that one keeps its promise.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sinks._answers import Answer
    from sinks._http import HttpClient, HttpSettings, HttpSink

__all__ = ["Answer", "HttpClient", "HttpSettings", "HttpSink"]

_MODULES = {
    "Answer": "sinks._answers",
    "HttpClient": "sinks._http",
    "HttpSettings": "sinks._http",
    "HttpSink": "sinks._http",
}


def __getattr__(name: str) -> object:
    """Load what is asked for; the HTTP client is not for those who only write files."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted(__all__)
