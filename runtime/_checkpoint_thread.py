"""The thread that writes checkpoints, and the only place where others meet it.

Jobs run one after the other in the order they came. The thread starts with the first job and is a
daemon: a process that does not wait for it leaves an unfinished checkpoint that nobody can see.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

log = logging.getLogger("runtime")

Job: TypeAlias = Callable[[], None]


class JobThread:
    """Runs jobs in the background, or at once if it is not to have a thread.

    Args:
        name: The thread's name.
        background: Whether jobs run on a thread of their own.
    """

    def __init__(self, name: str, *, background: bool) -> None:
        self._name = name
        self._background = background
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._ending = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Hand over a job, which must account for its own failures; does not wait for it."""
        if not self._background:
            _run(job)
            return
        with self._changed:
            self._jobs.append(job)
            self._ending = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every job handed over so far is done; False if that takes longer.

        On the thread itself, which would wait for itself, it says whether more is waiting.
        """
        if threading.current_thread() is self._thread:
            return not self._jobs
        with self._changed:
            return self._changed.wait_for(lambda: not (self._jobs or self._busy), timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Wait likewise, and see the thread end if no job is left; a new job starts another."""
        done = self.wait(timeout)
        with self._changed:
            thread, self._ending = self._thread, True
            self._changed.notify_all()
            if thread is None or thread is threading.current_thread() or not done:
                return done
            self._changed.wait_for(lambda: self._thread is not thread or not self._ending)
            leaving = self._thread is not thread
        if leaving:
            thread.join()
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs or self._ending)
                if not self._jobs:
                    self._thread = None
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
                self._busy = True
            _run(job)
            del job  # it holds a whole state


def _run(job: Job) -> None:
    try:
        job()
    except Exception:
        log.exception("a checkpoint's job failed; the next ones go on")
