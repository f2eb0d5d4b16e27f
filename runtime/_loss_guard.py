"""`LossGuard` finds a loss or gradient norm that is not finite, or that jumps, without waiting.

    training thread │ check: keep the values, each few steps score them ─► look: judge and ask
    ────────────────┼──────────────────────────────────────────────────────────────────────────
    device          │     the steps ─► their scores ─► a copy of the highest to the host

The device finds, the host hears of it when the copy is there, and asks through the control channel.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, cast

import torch

from bus import AnomalyDetected, AnomalyKind, Control, DeviceValues, Event, Save, Stop
from runtime._compile import run_as_written
from runtime._loss_band import LossBand
from runtime._metrics import error_text

log = logging.getLogger("runtime")

Action: TypeAlias = Literal["ignore", "alert", "save", "stop"]
"""What is done about a finding; to save and to stop are alerts too."""

ASKER: Final = "the loss guard"

_PAUSE: Final = 0.002
"""Seconds between two looks at a device that the end of a run waits for."""

_NAMES: Final[tuple[str, ...]] = ("loss", "grad_norm")
_BETWEEN: Final = "+"


class Guarding(Protocol):
    """The part of a run that is used here."""

    @property
    def control(self) -> Control:
        """The channel for requests."""
        ...

    def take(self, tensors: Mapping[str, torch.Tensor]) -> DeviceValues | None:
        """Start copying tensors to the host."""
        ...

    def publish(self, event: Event) -> None:
        """Publish an event."""
        ...

    def tell_anomaly(self, found: AnomalyDetected) -> None:
        """Raise an alert on rank 0, one for all ranks."""
        ...


@dataclass(frozen=True, slots=True)
class _Check:
    """Some steps and what is farthest up in them, on its way."""

    steps: tuple[int, ...]
    names: tuple[str, ...]
    device: DeviceValues
    is_learning: bool


class LossGuard:
    """Watches the loss of one training; made by `run.guard`.

    Args:
        run: Where to publish and to ask.
        on_nonfinite: What to do about a value that is NaN or infinite.
        on_spike: What to do about a value that is far above its running mean.
        threshold: Standard deviations that count as far.
        window: Steps over which mean and deviation run.
        every: Steps that are looked at together.

    Attributes:
        nonfinite_from: The first step that is known to have had a value which is not finite.
    """

    def __init__(
        self,
        run: Guarding,
        *,
        on_nonfinite: Action,
        on_spike: Action,
        threshold: float,
        window: int,
        every: int,
    ) -> None:
        self.nonfinite_from: int | None = None
        self._run = run
        self._actions: dict[AnomalyKind, Action] = {"nonfinite": on_nonfinite, "spike": on_spike}
        self._threshold = threshold
        self._window = window
        self._every = every
        self._bands: dict[tuple[str, ...], LossBand] = {}
        self._names: tuple[str, ...] = ()
        self._steps: list[int] = []
        self._values: list[torch.Tensor] = []
        # Not bounded: a device's queue is, so a loop cannot run far ahead of what it computes.
        self._pending: deque[_Check] = deque()
        # The thread that writes checkpoints looks too, before older ones are deleted.
        self._looking = threading.Lock()
        self._found: dict[AnomalyKind, int] = {}
        self._told: dict[AnomalyKind, int] = {}
        self._said = False

    @run_as_written
    def check(
        self, loss: torch.Tensor, *, step: int, grad_norm: torch.Tensor | None = None
    ) -> None:
        """Remember a step for the device to look at, and act on what it has found in steps before.

        Nothing waits for the device and nothing is raised. A finding takes effect at the first
        safe point after the device has looked at its step, which is done `every` steps at a time.

        Args:
            loss: The loss of the step, a tensor with one element.
            step: Optimizer steps taken, this one included.
            grad_norm: The norm of the step's gradients, likewise and on the same device. With a
                `GradScaler` leave it out: its gradients are infinite now and then.
        """
        try:
            self._add(step, loss, grad_norm)
        except Exception as error:  # noqa: BLE001 - a device may fail in any way, training goes on
            self._say(f"the loss of step {step} was not checked: {error_text(error)}")
        if self._pending:
            self.look()

    @run_as_written
    def flush(self) -> None:
        """Have the device look at once at the steps that it has not looked at yet."""
        steps, values = tuple(self._steps), self._values
        if not steps:
            return
        self._steps, self._values = [], []
        try:
            with torch.no_grad():
                self._begin(steps, torch.stack(values).float())
        except Exception as error:  # noqa: BLE001 - a device may fail in any way, training goes on
            self._say(f"the loss of step {steps[-1]} was not checked: {error_text(error)}")

    def look(self, *, over: bool = False) -> None:
        """Act on what has arrived; never waits for a device.

        Args:
            over: Whether nothing can be asked of the loop any more, only told.
        """
        with self._looking:
            try:
                while self._pending and self._pending[0].device.ready():
                    self._judge(self._pending.popleft(), over=over)
            except Exception as error:  # noqa: BLE001 - a device may fail in any way
                self._pending.clear()
                self._say(f"some losses were not checked: {error_text(error)}")

    def finish(self, seconds: float) -> None:
        """Tell what is still found in the last steps; waits for their device at most so long."""
        deadline = time.monotonic() + seconds
        self.flush()
        self.look(over=True)
        while self._pending and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            self.look(over=True)
        if self._pending:
            self._say(f"the last steps were not checked, from step {self._pending[0].steps[0]} on")

    def state_dict(self) -> dict[str, object]:
        """What it has learnt, for a checkpoint; tensors are on their device."""
        self.flush()
        return {_BETWEEN.join(names): band.state_dict() for names, band in self._bands.items()}

    def load_state_dict(
        self, state: Mapping[str, object], *, device: torch.device | None = None
    ) -> None:
        """Go on from what `state_dict` gave, or begin anew with an empty mapping.

        Args:
            state: What a checkpoint kept.
            device: Where the losses will be; by default where the state is.
        """
        with self._looking:
            self._pending.clear()
            self._found.clear()
            self._told.clear()
        self.nonfinite_from = None
        self._steps, self._values, self._bands = [], [], {}
        for names, kept in state.items():
            band = self._band(tuple(names.split(_BETWEEN)))
            if isinstance(kept, Mapping):
                band.load_state_dict(cast("Mapping[str, object]", kept), device)

    def is_news(self, found: AnomalyDetected) -> bool:
        """Whether a finding of any rank is worth an alert, and not of a trouble that had one."""
        return self._is_first(self._told, found.kind, found.step or 0)

    def _is_first(self, known: dict[AnomalyKind, int], kind: AnomalyKind, step: int) -> bool:
        """Whether the last of this kind is longer ago than the window; remembers this one."""
        last, known[kind] = known.get(kind), step
        return last is None or not 0 <= step - last <= self._window

    def _band(self, names: tuple[str, ...]) -> LossBand:
        if names not in self._bands:
            self._bands[names] = LossBand(window=self._window, threshold=self._threshold)
        return self._bands[names]

    def _add(self, step: int, loss: torch.Tensor, grad_norm: torch.Tensor | None) -> None:
        given = [loss] if grad_norm is None else [loss, grad_norm]
        names = _NAMES[: len(given)]
        if names != self._names:
            self.flush()
            self._names = names
        for name, each in zip(names, given, strict=True):
            _check_scalar(name, each)
        with torch.no_grad():
            # A copy, since the next step may write over what it was given.
            values = torch.stack([each if each.dim() == 0 else each.reshape(()) for each in given])
        self._values.append(values)
        self._steps.append(step)
        if len(self._steps) >= self._every:
            self.flush()

    def _begin(self, steps: tuple[int, ...], values: torch.Tensor) -> None:
        band = self._band(self._names)
        learning, found = band.is_learning, band.add(values)
        packed: dict[str, torch.Tensor] = {}
        for kind in ("value", "score", "place"):
            parts = cast("torch.Tensor", getattr(found, kind)).unbind()
            names = (f"{name} {kind}" for name in self._names)
            packed.update(zip(names, parts, strict=True))
        device = self._run.take(packed)
        if device is not None:
            self._pending.append(_Check(steps, self._names, device, learning))

    def _judge(self, check: _Check, *, over: bool) -> None:
        """Act on the first metric that is not finite, or else on the first that jumps."""
        found = check.device.values()
        places = {name: check.steps[int(found[f"{name} place"])] for name in check.names}
        values = {name: found[f"{name} value"] for name in check.names}
        scores = {name: found[f"{name} score"] for name in check.names}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            name = min(bad, key=places.__getitem__)
            self._act("nonfinite", name, places[name], values[name], None, over=over)
        elif not check.is_learning:
            for name, score in scores.items():
                if score > self._threshold:
                    self._act("spike", name, places[name], values[name], score, over=over)
                    return

    def _act(
        self,
        kind: AnomalyKind,
        metric: str,
        step: int,
        value: float,
        score: float | None,
        *,
        over: bool,
    ) -> None:
        """Publish a finding and ask what is to be asked, once for all that follow closely."""
        if kind == "nonfinite" and self.nonfinite_from is None:
            self.nonfinite_from = step
        action = self._actions[kind]
        if not self._is_first(self._found, kind, step) or action == "ignore":
            return
        found = AnomalyDetected(
            step=step, metric=metric, kind=kind, value=value, z=score, action=action
        )
        self._run.publish(found)
        self._run.tell_anomaly(found)
        if not over and action != "alert":
            asked = Stop if action == "stop" else Save
            self._run.control.request(asked(reason=found.sentence(), by=ASKER))

    def _say(self, text: str) -> None:
        """Log something once."""
        if not self._said:
            self._said = True
            log.warning("%s", text)


def _check_scalar(name: str, value: object) -> None:
    if not isinstance(value, torch.Tensor) or hasattr(value, "full_tensor"):
        raise TypeError(
            f"{name} is of {type(value).__name__}; pass a plain tensor, of a sharded one its "
            "full_tensor() on every rank"
        )
    if value.numel() != 1:
        raise ValueError(f"{name} has {value.numel()} elements; reduce it to one")
