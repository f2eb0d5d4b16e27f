"""`Run.log`, the hot path.

Calls with plain numbers alone take a time, copy the dictionary and append; everything else
(tensors, numpy, bad values) is sorted by `_log_carefully`. Neither raises (unless the run is
`strict`), waits for a device, or touches a disk (unless its `durability` is "write"). Right after
a training step the caches hold that step, so an object costs more to look at than what is done
with it: `log` looks at few.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import torch
from torch.compiler import is_dynamo_compiling

from bus import Bus, DeviceValues, LoggingError, MetricsDraft
from runtime._announcing import Announcer
from runtime._compile import never_compiled, run_as_written
from runtime._device import DeviceReader, HostValues, Snapshots
from runtime._metrics import Scalar, checked_step, error_text, made_floats, sort_metrics

_MANY: Final = 64
"""Metrics in one call beyond which their size is accounted for."""

_PLAIN_STEP: Final = 2**30
"""Steps below it compare without a call, because Python keeps them in one digit."""

_TIME_EVERY: Final = 0.1
"""Seconds between two calls that are timed: two clock readings cost a tenth of a call."""

_now: Final = time.time


class MetricsLogger(Announcer):
    """The part of `Run` that training calls at every step."""

    def __init__(
        self, bus: Bus, *, snapshots: Mapping[str, Snapshots] | None, strict: bool
    ) -> None:
        self._bus = bus
        self._strict = strict
        self._reader = DeviceReader(snapshots)
        self._put = bus.put_draft
        self._fast = False
        self._time_next_at = 0.0
        # None sends the next call the long way: one to be timed, or no such calls at all.
        self._quick: Callable[[MetricsDraft], int] | None = None

    @abstractmethod
    def refuses_more(self) -> bool:
        """Whether the run is over for the calling thread, which is then accounted for."""

    @run_as_written
    def log(self, metrics: Mapping[str, Scalar], *, step: int | None = None) -> None:
        """Publish numbers: Python's, numpy's, or tensors with one element on any device.

        Tensors are copied without waiting for their device and keep the value they have now,
        whatever is done to them in place later. A value that cannot be logged is dropped, counted,
        and its key named once.

        Args:
            metrics: Numbers by name. Integers are exact up to 2**53.
            step: Optimizer steps taken so far, or None if they belong to no step.

        Raises:
            LoggingError: Only if the run is strict.
        """
        put, kind = self._quick, type(metrics)
        if (
            put is not None
            and kind is dict
            and (step is None or (type(step) is int and 0 <= step < _PLAIN_STEP))
            and not is_dynamo_compiling()
        ):
            copy = dict(metrics)
            if 0 < len(copy) <= _MANY:
                for value in copy.values():
                    if type(value) is not float and not made_floats(copy):
                        break
                else:
                    made = _now()
                    put((made, step, copy))  # type: ignore[arg-type]  # floats, as seen # pyright: ignore[reportArgumentType]
                    if made >= self._time_next_at:
                        self._quick = None
                    return
        self._log_otherwise(metrics, step)

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues | None:
        """Start copying tensors of one element to the host; None if there are none."""
        return self._reader.take(tensors) if tensors else None

    def log_late(
        self, host: dict[str, float], device: DeviceValues, names: Iterable[str], step: int
    ) -> None:
        """Publish numbers of which some are still on their way from a device.

        Args:
            host: What is known already.
            device: What `take` returned.
            names: All names, the device's included.
            step: Optimizer steps taken so far.
        """
        if not self.refuses_more():
            self._bus.publish_deferred(_now(), step, host, frozenset(names), device)

    def start_logging(self) -> None:
        """From now on plain numbers take the short way, unless the run is strict."""
        self._put = self._bus.put_draft
        self._fast = not self._strict

    def stop_logging(self) -> None:
        """Send every later call the long way, which finds the run closed."""
        self._fast = False
        self._quick = None

    @never_compiled
    def _log_eagerly(self, metrics: Mapping[str, Scalar], step: int | None) -> None:
        self.log(metrics, step=step)

    def _log_otherwise(self, metrics: Mapping[str, Scalar], step: int | None) -> None:
        """Log what is no small dictionary of plain numbers, or is to be timed."""
        if is_dynamo_compiling():
            self._log_eagerly(metrics, step)
            return
        began = _now()
        if began < self._time_next_at:
            self._log_carefully(metrics, step)
            return
        self._time_next_at = began + _TIME_EVERY
        if self._fast:
            self._quick = self._put
            if not self._fast:  # closed by another thread in between
                self._quick = None
        started = time.perf_counter_ns()
        self.log(metrics, step=step)
        self._bus.latency.add(time.perf_counter_ns() - started)

    def _log_carefully(self, metrics: object, step: object) -> None:
        """Sort the values, publish the good ones, account for the bad ones."""
        if self.refuses_more():
            return
        made = _now()
        if self._log_alike(metrics, step, made):
            return
        found = sort_metrics(metrics, read_cpu=self._reader.reads_cpu)
        good_step = checked_step(step, found.bad)
        device = None
        if found.tensors:
            try:
                device = self._reader.take(found.tensors)
            except Exception as error:  # noqa: BLE001 - a device may fail in any way
                found.bad.update(
                    dict.fromkeys(found.tensors, f"its device said: {error_text(error)}"[:300])
                )
        if isinstance(device, HostValues):
            found.host.update(device.values())
            device = None
        if device is not None:
            keys = frozenset(found.host) | frozenset(found.tensors)
            self._bus.publish_deferred(made, good_step, found.host, keys, device)
        elif found.host:
            self._bus.publish_metrics((made, good_step, found.host))
        for key, reason in found.bad.items():
            self._bus.reject(key, reason)
        if found.bad and self._strict:
            raise LoggingError(found.bad)

    def _log_alike(self, metrics: object, step: object, made: float) -> bool:
        """Log tensors that can be taken without looking at each; tell whether these could."""
        try:
            device = self._reader.take_alike(metrics)
        except Exception:  # noqa: BLE001 - the careful way says what it was
            return False
        if device is None:
            return False
        bad: dict[str, str] = {}
        good_step = checked_step(step, bad)
        if bad:
            return False
        self._bus.publish_deferred(made, good_step, {}, device.names, device)
        return True

    def refuse(self, method: str, error: Exception) -> None:
        """Count arguments that make no event and name the method once; raise if strict."""
        if self._strict:
            raise error
        self._bus.reject(method, " ".join(error_text(error).splitlines()[:3])[:300])
