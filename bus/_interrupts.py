"""Ctrl-C, and the death of a child, in the middle of what must not be left half done."""

import importlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self, TypeAlias, cast

_Handler: TypeAlias = Callable[[int, FrameType | None], object]

# `signal` wraps these to make enum members, which takes several times as long as what they do. Not
# imported by name, because no type checker knows it.
_plain = importlib.import_module("_signal")
_get_handler: Final = cast("Callable[[int], object]", _plain.getsignal)
_set_handler: Final = cast("Callable[[int, _Handler], object]", _plain.signal)
_SIGINT: Final = int(signal.SIGINT)
_SIGCHLD: Final = int(signal.SIGCHLD)

_raising: list[_Handler] = [signal.default_int_handler]


def interrupts_like(handler: Callable[[int, FrameType | None], object]) -> None:
    """Say that a handler of SIGINT may raise `KeyboardInterrupt`, as Python's own does."""
    _raising[1:] = [handler]


class deferred_interrupt:  # noqa: N801 - used as a statement, like `contextlib.suppress`
    """Have the first `KeyboardInterrupt` of a block be raised when the block is over.

    SIGCHLD's handler is called when the block is over, too, for torch's raises if the child was a
    worker of a data loader.

    Does nothing outside the main thread. Where SIGINT does not raise in the first place, under a
    handler that is neither Python's own nor in `interrupts_like`, it is left alone. Blocks may be
    nested: the outermost decides.

    Args:
        hurry: Called when the interrupt comes, between two instructions of the block, so it must
            take no lock.

    Raises:
        KeyboardInterrupt: There was one; for a second one, in the middle of the block.
    """

    __slots__ = ("_came", "_child_ended", "_child_handler", "_handler", "_hurry")

    def __init__(self, hurry: Callable[[], object] | None = None) -> None:
        self._hurry = hurry
        self._handler: _Handler | None = None
        self._came = False
        self._child_handler: _Handler | None = None
        self._child_ended = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            try:
                self._put_off()
            except BaseException:  # one of the signals came just now
                self._put_back()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handler is None and self._child_handler is None:
            return
        self._put_back()
        try:
            if self._child_handler is not None and self._child_ended:
                self._child_handler(_SIGCHLD, None)
        finally:
            if self._came and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt

    def _put_off(self) -> None:
        handler = _get_handler(_SIGINT)
        for raising in _raising:
            if handler is raising:
                self._handler = raising
                _set_handler(_SIGINT, self._note)
        handler = _get_handler(_SIGCHLD)
        if callable(handler):
            self._child_handler = cast("_Handler", handler)
            _set_handler(_SIGCHLD, self._note_child)

    def _put_back(self) -> None:
        try:
            if self._child_handler is not None:
                _set_handler(_SIGCHLD, self._child_handler)
        finally:  # that one may raise at once
            if self._handler is not None:
                _set_handler(_SIGINT, self._handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        assert self._handler is not None
        try:
            self._handler(number, frame)
        except KeyboardInterrupt:
            if self._came:
                raise
            self._came = True
            if self._hurry is not None:
                self._hurry()

    def _note_child(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._child_ended = True
