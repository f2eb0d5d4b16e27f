"""A flag to wait for that neither a signal handler nor a `KeyboardInterrupt` can break."""

import contextlib
import threading


class Signal:
    """A flag that a signal handler may set while its own thread sets it; one thread waits for it.

    A `threading.Event` would deadlock there, because the lock inside it is not re-entrant; and that
    lock would stay taken for ever where a `KeyboardInterrupt` comes right after it was taken.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake one thread that waits, or the next that does."""
        with contextlib.suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for it and clear it; tell whether it was set in time, in seconds or for ever."""
        return self._unset.acquire(timeout=-1 if timeout is None else timeout)

    def clear(self) -> None:
        """Forget that it was set."""
        self._unset.acquire(blocking=False)
