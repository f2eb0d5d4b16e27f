"""Keeps SwanLab's library from the process that loads it: its hooks, its output, its environment.

The library serves a program that is SwanLab's alone. Its run takes the exception hook and registers
itself for the exit, and at its end sets the hook back to what it was at its beginning, whatever it
has become; all of it writes to one console. What it thus reaches by name in its own modules is
exchanged there for as long as it works for us, so that nothing of the process need be put back but
one variable, which the dashboard's part of it sets.
"""

import atexit
import io
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from rich.console import Console

from sinks._libraries import library

_EXTRA: Final = "swanlab"
_FOLDER: Final = "SWANLAB_LOG_DIR"
_KEPT: Final = 4000


class _Aside(ModuleType):
    """A module as another one sees it that may change it for itself alone."""

    def __init__(self, module: ModuleType, **own: object) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(own)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


class _Words(io.StringIO):
    """Takes what is printed, and keeps the end of it."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = ""

    def write(self, text: str, /) -> int:
        self._kept = (self._kept + text)[-_KEPT:]
        return len(text)

    def forget(self) -> None:
        self._kept = ""

    def last(self) -> str:
        lines = [line for line in self._kept.splitlines() if line.strip()]
        return lines[-1].rpartition(" - ")[2].strip() if lines else ""


class _Exchange:
    """Names of modules that have other values while anybody is inside.

    Args:
        make: The values, by module and name.
    """

    def __init__(self, make: Callable[[], Mapping[tuple[ModuleType, str], object]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._before: dict[tuple[ModuleType, str], object] = {}

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                for (module, name), value in self._make().items():
                    self._before[module, name] = getattr(module, name)
                    setattr(module, name, value)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for (module, name), value in self._before.items():
                    setattr(module, name, value)
                self._before.clear()


def _nothing(*_: object) -> None:
    """What registering for the exit comes to: the delivery ends the run itself, and in time."""


def _hooks() -> Mapping[tuple[ModuleType, str], object]:
    run = library("swanlab.sdk.internal.run", _EXTRA)
    settings = library("swanlab.sdk.internal.settings", _EXTRA)
    source: Callable[..., Any] = settings._QuoteAwareEnvSettingsSource  # noqa: SLF001 - see below

    def environment(*arguments: object, **options: object) -> object:
        """All variables but SWANLAB_PROJECT, which Transformers knows and SwanLab 0.10 fails of."""
        found = source(*arguments, **options)
        found.env_vars = {
            name: value
            for name, value in found.env_vars.items()
            if name.upper() != "SWANLAB_PROJECT"
        }
        return found

    return {
        (run, "sys"): _Aside(sys, excepthook=sys.excepthook),
        (run, "atexit"): _Aside(atexit, register=_nothing, unregister=_nothing),
        (settings, "_QuoteAwareEnvSettingsSource"): environment,
    }


_words: Final = _Words()


def _console() -> Mapping[tuple[ModuleType, str], object]:
    # Not a terminal whatever the environment says: on one, rich would exchange sys.stdout.
    quiet = Console(file=_words, force_terminal=False, force_jupyter=False, width=_KEPT)
    return {(library("swanlab.sdk.internal.pkg.console", _EXTRA), "c"): quiet}


_HOOKS: Final = _Exchange(_hooks)
_CONSOLE: Final = _Exchange(_console)


@contextmanager
def apart() -> Generator[None]:
    """While the library begins or ends a run."""
    told = os.environ.get(_FOLDER)
    try:
        _HOOKS.enter()
        yield
    finally:
        _HOOKS.leave()
        if os.environ.get(_FOLDER) != told:
            os.environ.pop(_FOLDER, None)
            if told is not None:
                os.environ[_FOLDER] = told


def hush() -> None:
    """From here on what the library prints is kept, until as many calls of `unhush`."""
    _words.forget()
    _CONSOLE.enter()


def unhush() -> None:
    """What ends `hush`."""
    _CONSOLE.leave()


def last_words() -> str:
    """What it printed last."""
    return _words.last()
