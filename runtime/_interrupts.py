"""Ctrl-C while a run closes: the first ends the waiting, the second leaves at once."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt(hurry: Callable[[], object]) -> Generator[None]:
    """Have the first SIGINT call `hurry`, and raise `KeyboardInterrupt` when the block is over.

    Does nothing outside the main thread, or where SIGINT does not raise in the first place.

    Args:
        hurry: Called between two instructions of the block, so it must take no lock.

    Raises:
        KeyboardInterrupt: There was one; for a second one, in the middle of the block.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            signal.default_int_handler(number, frame)
        interrupted = True
        hurry()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
