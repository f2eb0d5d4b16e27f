"""A thread that makes blocking calls for coroutines, one at a time, and can be given up on."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from bus._failures import UnavailableError

Result = TypeVar("Result")

_GLANCE: Final = 0.005
"""Seconds between two looks whether an abandoned call has returned."""


class Worker:
    """A daemon thread that makes one call at a time for coroutines, which may give up waiting."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy: str | None = None
        self._task: Callable[[], None] | None = None
        self._wake = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Make a call; cancelling the wait does not end the call.

        Raises:
            UnavailableError: An earlier call that was abandoned is still under way.
        """
        if self._busy is not None:
            raise UnavailableError(f"the call of {self._busy} made earlier has not returned yet")
        self._busy = function.__name__
        done = anyio.Event()
        token = anyio.lowlevel.current_token()
        outcome: list[Result] = []
        failure: list[BaseException] = []
        context = copy_context()

        def task() -> None:
            try:
                outcome.append(context.run(function, *arguments))
            except BaseException as error:  # noqa: BLE001 - handed to the waiting coroutine
                failure.append(error)
            self._busy = None
            try:
                anyio.from_thread.run_sync(done.set, token=token)
            except (RuntimeError, anyio.RunFinishedError):
                return  # the loop is gone, and with it whoever waited

        self._task = task
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._wake.release()
        await done.wait()
        if failure:
            error = failure[0]
            # StopIteration cannot leave a coroutine, and SystemExit would leave everybody's loop.
            raise (
                error
                if isinstance(error, Exception) and not isinstance(error, StopIteration)
                else RuntimeError(f"{function.__name__} raised {error!r}")
            )
        return outcome[0]

    async def call_in_turn(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Make a call as soon as one that was abandoned has returned."""
        while self._busy is not None:  # noqa: ASYNC110 - whoever gave up on it set no event
            await anyio.sleep(_GLANCE)
        return await self.call(function, *arguments)

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way; of one that was abandoned nobody knows when it returns."""
        return self._busy is not None

    def end(self, last: Callable[[], None] | None = None) -> None:
        """Let the thread end when it has nothing to do; `last` is called there before."""
        self._task = last
        self._wake.release()
        if last is not None:
            self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            task, self._task = self._task, None
            if task is None:
                return
            task()
