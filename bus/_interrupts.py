"""Ctrl-C in the middle of what must not be left half done."""

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


class deferred_interrupt:  # noqa: N801 - used as a statement, like `contextlib.suppress`
    """Have the first SIGINT of a block raise `KeyboardInterrupt` when the block is over.

    Does nothing outside the main thread, or where SIGINT does not raise in the first place. Blocks
    may be nested: the outermost decides.

    Args:
        hurry: Called when it comes, between two instructions of the block, so it must take no lock.

    Raises:
        KeyboardInterrupt: There was one; for a second one, in the middle of the block.
    """

    __slots__ = ("_came", "_defers", "_hurry")

    def __init__(self, hurry: Callable[[], object] | None = None) -> None:
        self._hurry = hurry
        self._defers = False
        self._came = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._defers = _get_handler(_SIGINT) is signal.default_int_handler
            if self._defers:
                _set_handler(_SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._defers:
            _set_handler(_SIGINT, signal.default_int_handler)
            if self._came and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            signal.default_int_handler(number, frame)
        self._came = True
        if self._hurry is not None:
            self._hurry()
