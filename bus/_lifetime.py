"""What happens to open runs when the process ends or forks.

Closing comes before the interpreter shuts its thread pools down, where it says when that is, and
never in a forked child.
"""

import atexit
import os
import threading
from collections.abc import Callable
from typing import Final, Protocol


class Closable(Protocol):
    """Something to close at exit and to silence in a forked child."""

    def close_at_exit(self) -> None:
        """The interpreter is about to end."""
        ...

    def forked(self) -> None:
        """This process is a forked child; nothing may be sent, written or closed from here."""
        ...


# Strong references: a run that went out of scope unclosed is still closed at exit.
_open: Final[set[Closable]] = set()
_owner = [os.getpid()]
_installed = [False]


def track(closable: Closable) -> None:
    """Close it at exit unless `forget` was called before, and tell it of forks."""
    if not _installed[0]:
        _installed[0] = True
        _owner[0] = os.getpid()  # a launcher may have imported this and forked since
        os.register_at_fork(after_in_child=_after_fork)
        _at_exit(_close_all)
    _open.add(closable)


def forget(closable: Closable) -> None:
    """It is closed."""
    _open.discard(closable)


def _at_exit(function: Callable[[], None]) -> None:
    register: object = getattr(threading, "_register_atexit", atexit.register)
    if callable(register):
        try:
            register(function)
        except RuntimeError:  # the interpreter is shutting down already
            atexit.register(function)


def open_runs() -> frozenset[Closable]:
    """The runs of this process that are open."""
    return frozenset(_open)


def _close_all() -> None:
    if os.getpid() != _owner[0]:
        return
    for closable in list(_open):
        closable.close_at_exit()


def _after_fork() -> None:
    for closable in list(_open):
        closable.forked()
    _open.clear()
    _owner[0] = os.getpid()
