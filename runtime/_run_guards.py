"""The part of `Run` that guards a loss: `guard`, and one alert for all ranks."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Final, Literal, get_args

from bus import AnomalyDetected, Bus, Control, Decision, Request
from runtime._device import Snapshots
from runtime._loss_guard import ASKER, Action, LossGuard
from runtime._monitors_run import Monitored

_PATIENCE: Final = 1.0
"""Seconds that the end of a run waits for the device to say how the last steps were."""


class TellAnomaly(Request):
    """Have rank 0, which delivers, raise the alert for what another rank has found.

    Attributes:
        found: The finding.
    """

    type: Literal["tell_anomaly"] = "tell_anomaly"
    found: AnomalyDetected


class Guarded(Monitored):
    """A run whose loss can be guarded."""

    def __init__(
        self, bus: Bus, *, snapshots: Mapping[str, Snapshots] | None, strict: bool
    ) -> None:
        super().__init__(bus, snapshots=snapshots, strict=strict)
        self._guard: LossGuard | None = None

    @property
    @abstractmethod
    def control(self) -> Control:
        """The channel for requests."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The number of this process among those that train together."""

    @property
    def active_guard(self) -> LossGuard | None:
        """What `guard` made last; a loop that belongs to the run has it check each step."""
        return self._guard

    def guard(
        self,
        *,
        on_nonfinite: Action = "stop",
        on_spike: Action = "alert",
        threshold: float = 8.0,
        window: int = 50,
        every: int = 4,
    ) -> LossGuard:
        """Find a loss or gradient norm that is NaN or infinite, or that jumps, and act on it.

        The device finds it and nothing waits for the device; see `LossGuard.check`. A finding is a
        `bus.AnomalyDetected`, and unless it is ignored an alert; "save" and "stop" also ask for
        that, at a safe point, on all ranks alike. Findings of a kind that follow within `window`
        steps of each other are one. A second guard replaces the first.

        Args:
            on_nonfinite: What to do about a value that is NaN or infinite.
            on_spike: What to do about a value that is far above its mean.
            threshold: Standard deviations above the running mean that count as far.
            window: Steps over which mean and deviation run; spikes are found after the first so
                many.
            every: Steps that the device looks at together. A finding takes effect so many steps
                later at most, and as many more as the device is behind the loop.

        Returns:
            What a loop of one's own calls at each step.

        Raises:
            ValueError: An argument is out of range.
        """
        for name, action in (("on_nonfinite", on_nonfinite), ("on_spike", on_spike)):
            if action not in get_args(Action):
                choices = ", ".join(map(repr, get_args(Action)))
                raise ValueError(f"{name}={action!r} must be one of {choices}")
        if not 0 < threshold < math.inf:
            raise ValueError(f"threshold={threshold} must be standard deviations, more than 0")
        if window < 2:
            raise ValueError(f"window={window} must be steps to learn from, 2 or more")
        if every < 1:
            raise ValueError(f"every={every} must be steps to look at together, 1 or more")
        self._guard = LossGuard(
            self,
            on_nonfinite=on_nonfinite,
            on_spike=on_spike,
            threshold=threshold,
            window=window,
            every=every,
        )
        return self._guard

    def tell_anomaly(self, found: AnomalyDetected) -> None:
        """Alert to what this rank has found: at once on rank 0, which others ask to do it."""
        if self.rank:
            self.control.request(TellAnomaly(found=found, by=ASKER))
        else:
            self._alert(found, "")

    def heed(self, decision: Decision) -> None:
        """Raise the alerts that other ranks ask for."""
        for request in decision.requests:
            if isinstance(request, TellAnomaly) and not self.rank:
                self._alert(request.found, f" (found by {request.by})")

    def end_guarding(self) -> None:
        """Tell what the last steps still have; `close` does it."""
        if self._guard is not None:
            self._guard.finish(_PATIENCE)

    def _alert(self, found: AnomalyDetected, where: str) -> None:
        if self._guard is not None and not self._guard.is_news(found):
            return
        spoilt = found.kind == "nonfinite"
        self.alert(
            f"{found.metric} {'is not finite' if spoilt else 'jumps'}",
            found.sentence() + where,
            level="error" if spoilt else "warning",
            step=found.step,
        )
