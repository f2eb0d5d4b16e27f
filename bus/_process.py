"""Deliveries in a process of their own, seen from the process that trains.

The same calls as `Deliveries`. Everything that could wait for the other process happens in a
thread: one writes what it must be told, one reads what it reports and starts it again when it has
died. Nothing here signals it but the end of the time budget, which kills it.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from bus._deliveries import announce
from bus._event import Event
from bus._events import Outcome
from bus._handover import Finish, Handover, PlainSink, Report, is_portable
from bus._patience import Pace
from bus._requests import Request
from bus._sink import Sink, SinkContext
from bus._sink_account import SinkAccount

log = logging.getLogger("bus")

_FIRST_PAUSE = 0.5
_LAST_PAUSE = 60.0
_GLANCE = 0.01
_GRACE = 1.0
"""Seconds beyond the deadline in which a process that came so far may release its sinks."""


class ProcessDeliveries:
    """Delivers a run's journal to its sinks from another process.

    Args:
        publish: Takes the events that tell of sinks' health.
        asks: Takes what sinks ask of the training.
        pace: How often deliveries look around.
    """

    def __init__(
        self,
        publish: Callable[[Event], object],
        asks: Callable[[Request], object],
        pace: Pace | None = None,
    ) -> None:
        self._publish = publish
        self._asks = asks
        self._pace = pace or Pace()
        self._processes: list[_Process] = []
        self._hurried = False

    @staticmethod
    def takes(sink: Sink) -> bool:
        """Whether a sink can be built in another process."""
        return is_portable(sink)

    @property
    def accounts(self) -> tuple[SinkAccount, ...]:
        """What each has done so far, as far as was reported."""
        return tuple(process.account for process in self._processes)

    def add(self, sink: Sink, context: SinkContext) -> None:
        """Start a process that delivers to a sink."""
        handover = Handover.of(
            context, [PlainSink.of(sink)], parent=os.getpid(), look=self._pace.look
        )
        self._processes.append(_Process(sink.name, handover, self._publish, self._asks))

    def hurry(self) -> None:
        """Have `close` wait no longer; takes no lock."""
        self._hurried = True

    def close(self, outcome: Outcome, deadline: float) -> tuple[SinkAccount, ...]:
        """Have everything delivered, and end.

        Args:
            outcome: How the run ended.
            deadline: When to give up, on the monotonic clock.
        """
        for process in self._processes:
            process.finish(outcome, deadline)
        while not self._hurried and time.monotonic() < deadline and self._some_run:
            time.sleep(_GLANCE)
        if self._hurried:
            deadline = min(deadline, time.monotonic())
            for process in self._processes:
                process.finish(outcome, deadline)
        for process in self._processes:
            process.join(deadline + (_GRACE if process.has_reported else 0.0))
        return self.accounts

    @property
    def _some_run(self) -> bool:
        return any(process.runs for process in self._processes)


class _Process:
    """One delivery process, and the thread that keeps it running."""

    def __init__(
        self,
        name: str,
        handover: Handover,
        publish: Callable[[Event], object],
        asks: Callable[[Request], object],
    ) -> None:
        self.account = SinkAccount(name=name)
        self._handover = handover.model_dump_json().encode() + b"\n"
        self._publish = publish
        self._asks = asks
        self._finishing: tuple[Outcome, float] | None = None
        self._done = False
        self._lock = threading.Lock()
        self._stir = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(
            target=self._keep_running, name=f"hotloop-deliver-{name}", daemon=True
        )
        self._thread.start()

    def finish(self, outcome: Outcome, deadline: float) -> None:
        with self._lock:
            self._finishing = (outcome, deadline)
            child = self._child
        self._stir.set()
        if child is not None:
            threading.Thread(target=self._tell_end, args=(child,), daemon=True).start()

    def join(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._done = True
            child = self._child
        if child is not None and child.poll() is None:
            child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1.0)

    @property
    def has_reported(self) -> bool:
        """Whether it has said anything yet; one that starts only now has nothing to release."""
        return self.account.status != "opening"

    @property
    def runs(self) -> bool:
        """Whether it has not come to an end."""
        return self._thread.is_alive()

    def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
        while not self._done:
            started = time.monotonic()
            try:
                ended = self._run_once()
            except OSError as error:
                log.warning("the delivery process of %s: %s", self.account.name, error)
                ended = False
            if ended or (self._finishing is not None and time.monotonic() > self._finishing[1]):
                return
            if time.monotonic() - started > _LAST_PAUSE:
                pause = _FIRST_PAUSE
            log.warning(
                "the delivery process of %s has died; it is started again", self.account.name
            )
            self._stir.wait(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    def _run_once(self) -> bool:
        """Run it to its end; tell whether it had done its work."""
        with self._lock:
            if self._done:
                return True
            child = self._child = subprocess.Popen(
                [sys.executable, "-m", "bus.deliver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C and a logout are not meant for it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            finishing = self._finishing
        assert child.stdin is not None
        assert child.stdout is not None
        with child, child.stdout as reports:
            child.stdin.write(self._handover)
            child.stdin.flush()
            if finishing is not None:
                self._tell_end(child)
            ended = False
            for line in reports:
                ended = self._note(Report.model_validate_json(line)) or ended
            return ended

    def _tell_end(self, child: "subprocess.Popen[bytes]") -> None:
        assert self._finishing is not None
        assert child.stdin is not None
        outcome, deadline = self._finishing
        order = Finish(outcome=outcome, seconds=max(0.0, deadline - time.monotonic()))
        try:
            child.stdin.write(order.model_dump_json().encode() + b"\n")
            child.stdin.flush()
        except (OSError, ValueError):
            log.debug("the delivery process of %s is gone", self.account.name)

    def _note(self, report: Report) -> bool:
        for request in report.requests:
            self._asks(request)
        before, self.account = self.account, report.account
        if (before.status, before.url) != (report.account.status, report.account.url):
            announce(report.account, self._publish)
        return report.last
