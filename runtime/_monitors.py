"""Samples throughput and the machine beside training, on a thread with a budget.

The training thread only notes what it did; the rest happens on the monitor's thread, which waits
after each reading until that reading has cost less than 0.5 % of a core.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from bus import SystemMetricsLogged
from runtime._compile import run_as_written
from runtime._hot_path import MetricsLogger
from runtime._monitors_probes import Probes
from runtime._monitors_throughput import Progress, rates

log = logging.getLogger("runtime")

T = TypeVar("T")

_SHARE: Final = 0.005
"""Of a core: what readings may take on average."""

_PATIENCE: Final = 1.0
"""Seconds that closing waits for a last reading."""


def pause_after(cost: float, interval: float) -> float:
    """Seconds to wait after a reading that took `cost` seconds of a core, at least `interval`."""
    return max(interval, cost / _SHARE)


class Monitor:
    """Publishes throughput and system metrics of a run at intervals; made by `run.monitor`.

    Throughput is logged under `throughput/` with the step it reaches to, the machine's state is
    published as `bus.SystemMetricsLogged` without one. Used by one training thread.

    Args:
        run: Where to publish.
        probes: What to read of the machine.
        interval: Seconds between two readings.
        peak_flops: Operations a second that the hardware can do, for the MFU; None for none.
    """

    def __init__(
        self, run: MetricsLogger, probes: Probes, *, interval: float, peak_flops: float | None
    ) -> None:
        self._run = run
        self._probes = probes
        self._asked = interval
        self._pause = interval
        self._peak = peak_flops
        self._cpu_seconds = 0.0
        self._waited = 0.0
        self._now: Progress | None = None
        self._before: Progress | None = None
        self._ending = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="hotloop-monitor", daemon=True)

    @property
    def interval(self) -> float:
        """Seconds until the next reading: as asked, or longer if readings cost too much."""
        return self._pause

    @property
    def cpu_seconds(self) -> float:
        """What readings have taken of a core so far."""
        return self._cpu_seconds

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    @run_as_written
    def step(self, step: int, *, samples: int = 0, tokens: int = 0, flops: float = 0.0) -> None:
        """Note that an optimizer step has ended; costs a microsecond or two.

        The first one begins the measurement: what it took, to compile and to warm up, is left out.

        Args:
            step: Optimizer steps taken so far.
            samples: Samples that it trained on.
            tokens: Tokens that it trained on.
            flops: Floating-point operations it took; see `runtime.FlopCounter`.
        """
        now = self._now
        if now is None:
            self._before = self._now = Progress(
                step, 0, 0, 0, 0.0, self._waited, time.perf_counter()
            )
            return
        self._now = Progress(
            step,
            now.steps + 1,
            now.samples + samples,
            now.tokens + tokens,
            now.flops + flops,
            self._waited,
            time.perf_counter(),
        )

    @run_as_written
    def waited(self, seconds: float) -> None:
        """Note that the loop waited so many seconds for data."""
        self._waited += seconds

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of a loader, with a note of how long each one was waited for."""
        iterator = iter(loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited(time.perf_counter() - began)
            yield batch

    def start(self) -> None:
        """Start its thread; the first reading is due after one interval."""
        self._thread.start()

    def close(self) -> None:
        """Publish a last reading and end; waits a second for it at most. Once is enough."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)
            if self._thread.is_alive() and not self._abandoned:
                log.warning("the monitor's last reading takes too long; it is left out")
        self._abandoned = True

    def _work(self) -> None:
        self._probes.find()
        over = False
        while not over:
            over = self._ending.wait(self._pause)
            began = time.thread_time()
            self._sample()
            cost = time.thread_time() - began
            self._cpu_seconds += cost
            self._pause = pause_after(cost, self._asked)

    def _sample(self) -> None:
        machine = self._probes.read()
        if self._abandoned:
            return  # the run has been closed meanwhile
        if machine:
            self._run.publish(SystemMetricsLogged(metrics=machine))
        before, now = self._before, self._now
        if before is not None and now is not None and now.steps > before.steps:
            self._before = now
            self._run.log(rates(before, now, self._peak), step=now.step)
