"""Delivers a run in a process of its own: `python -m bus.deliver`, started by `runtime.Run`.

It reads what to do on its standard input (see `bus._handover`) and tails the journal like every
other reader. Its standard input may stay open in forked children of the process that trains, so
the operating system tells it when that one has died; then it delivers what is there and closes the
run as crashed, unless the journal says otherwise.
"""

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import anyio

from bus._delivery import Delivery
from bus._events import Outcome
from bus._feed import Feed
from bus._handover import Finish, Handover, Report
from bus._patience import Pace
from bus._reader import JournalReader
from bus._requests import Request
from bus._rundir import process_started
from bus._sink import Sink
from bus._worker import Worker

log: logging.Logger = logging.getLogger("bus")

_AFTER_DEATH = 300.0
"""Seconds for delivering what the process that trained has left behind."""

_REPORT = 0.5


def main() -> None:
    """Deliver until the run has ended."""
    # Ctrl-C in the terminal is meant for the process that trains, which says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="hotloop deliver: %(message)s")
    lines = _lines()
    first = next(lines, None)
    if first is None:
        return  # whoever started this died before it could say what for
    handover = Handover.model_validate_json(first)
    sys.path[:] = handover.path
    anyio.run(_deliver, handover, lines)


async def _deliver(handover: Handover, lines: Iterator[bytes]) -> None:
    feed = Feed(handover.run_dir)
    running = _Running(handover)
    sinks: list[Sink] = []
    for plain in handover.sinks:
        sink = plain.make()
        sink.bind(handover.context)
        sinks.append(sink)
    async with anyio.create_task_group() as group:
        for sink in sinks:
            group.start_soon(running.deliver, sink, feed)
        token = anyio.lowlevel.current_token()
        listeners: list[Callable[[], None]] = [
            partial(_listen, lines, partial(_from_thread, token, running.finish)),
            partial(_outlive, handover, partial(_from_thread, token, running.finish)),
        ]
        for listener in listeners:
            threading.Thread(target=listener, daemon=True).start()
        group.start_soon(running.report, len(sinks))


class _Running:
    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._deliveries: list[Delivery] = []
        self._finished: tuple[Outcome, float] | None = None
        self._over: set[Delivery] = set()
        self._told: dict[str, Report] = {}

    async def deliver(self, sink: Sink, feed: Feed) -> None:
        disk = Worker(f"disk-{sink.name}")
        delivery = Delivery(
            sink,
            self._handover.context,
            feed,
            disk=disk.call_in_turn,
            announce=self._tell,
            pace=Pace(look=self._handover.look),
            asks=lambda request: self._write(_asking(delivery, request)),
        )
        self._deliveries.append(delivery)
        if self._finished is not None:
            delivery.finish(*self._finished)
        try:
            await delivery.run()
        except Exception:
            log.exception("delivery to %r failed", sink.name)
        finally:
            disk.end()
            self._over.add(delivery)
            self._tell(delivery)

    def finish(self, outcome: Outcome, seconds: float) -> None:
        deadline = anyio.current_time() + seconds
        if self._finished is None or deadline < self._finished[1]:
            self._finished = (outcome, deadline)
            for delivery in self._deliveries:
                delivery.finish(outcome, deadline)

    async def report(self, count: int) -> None:
        """Tell how far everything is until it is over; a hung one is cut off."""
        while len(self._over) < count:
            await anyio.sleep(_REPORT if self._finished is None else _REPORT / 10)
            for delivery in self._deliveries:
                self._tell(delivery)
            if self._finished is not None and anyio.current_time() > self._finished[1]:
                for delivery in self._deliveries:
                    delivery.abandon()

    def _tell(self, delivery: Delivery) -> None:
        report = Report(account=delivery.account, last=delivery in self._over)
        if self._told.get(delivery.sink.name) == report:
            return
        self._told[delivery.sink.name] = report
        self._write(report)

    def _write(self, report: Report) -> None:
        try:
            sys.stdout.write(report.model_dump_json() + "\n")
            sys.stdout.flush()
        except OSError:
            pass  # nobody listens any more; what is delivered stands in the cursors


def _asking(delivery: Delivery, request: Request) -> Report:
    return Report(account=delivery.account, asked=(request.model_dump(mode="json"),))


def _from_thread(token: object, function: Callable[..., None], *arguments: object) -> None:
    anyio.from_thread.run_sync(function, *arguments, token=token)  # type: ignore[arg-type]


def _lines() -> Iterator[bytes]:
    """Standard input, without a buffer whose lock a daemon thread would hold at the end."""
    rest = b""
    while piece := os.read(0, 1 << 16):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _listen(lines: Iterator[bytes], finish: Callable[[Outcome, float], None]) -> None:
    for line in lines:
        order = Finish.model_validate_json(line)
        finish(order.outcome, order.seconds)


def _outlive(handover: Handover, finish: Callable[[Outcome, float], None]) -> None:
    """Wait for the death of the process that trains."""
    _wait_for_death(handover.parent)
    attempts = JournalReader(handover.run_dir).attempts
    outcome = attempts[-1].outcome if attempts else None
    finish(outcome or "crashed", _AFTER_DEATH)


def _wait_for_death(pid: int) -> None:
    started = process_started(pid)
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # an old kernel, or not Linux
        while started is not None and process_started(pid) == started:
            time.sleep(0.5)
        return
    try:
        select.select([handle], [], [])
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
