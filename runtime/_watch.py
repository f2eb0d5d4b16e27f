"""Norms and histograms of a model's gradients and parameters, every so many steps, without waiting.

The loop says when: `watch.sample(step)` where the gradients are complete. A hook of the optimizer
would not know which step it is, would see gradients still scaled by a `GradScaler`, would break the
graph of a compiled `optimizer.step`, and would cost every step; a call that finds its step not due
costs a division. A trainer calls it for its users.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import torch

from bus import DeviceEvent, Event, HistogramLogged
from runtime._boxes import is_distributed, replicated_part
from runtime._compile import run_as_written
from runtime._metrics import error_text
from runtime._watch_copies import HostCopies
from runtime._watch_statistics import edges, histogram, norms, total_norm

log = logging.getLogger("runtime")


class Publisher(Protocol):
    """The part of a run that is used here."""

    def log(self, metrics: Mapping[str, torch.Tensor], *, step: int | None = None) -> None:
        """Publish numbers."""
        ...

    def publish_late(self, made: float, series: str, event: DeviceEvent) -> None:
        """Publish an event whose values are still on a device."""
        ...


class Watch:
    """Publishes norms, and histograms if asked, of one model; made by `run.watch`.

    Args:
        run: Where to publish.
        model: Whose parameters: those that it has now and that are real floating-point numbers.
        every: Steps from one sample to the next.
        gradients: Whether gradients are sampled.
        parameters: Whether the parameters themselves are.
        histograms: Whether to publish histograms beside the norms.
    """

    def __init__(
        self,
        run: Publisher,
        model: torch.nn.Module,
        *,
        every: int,
        gradients: bool,
        parameters: bool,
        histograms: bool,
    ) -> None:
        self._run = run
        self._every = every
        self._histograms = histograms
        # torch.compile's wrapper puts a name of its own before the others
        self._parameters = {
            name.replace("_orig_mod.", ""): each for name, each in model.named_parameters()
        }
        self._kinds: dict[str, Callable[[], dict[str, torch.Tensor]]] = {}
        if gradients:
            self._kinds["gradients"] = self._gradients
        if parameters:
            self._kinds["parameters"] = self._values
        self._said: set[str] = set()

    @run_as_written
    def sample(self, step: int) -> None:
        """Take a sample if the step is due: where it is a multiple of `every`.

        Call it when the gradients are complete and still there: after the last backward pass of
        the step (with a `GradScaler`, after `unscale_`) and before `zero_grad`. What is published
        is what they are then, clipped or not. Nothing waits for the device, nothing is raised.

        Args:
            step: The step that the gradients belong to, counted as elsewhere in the run.
        """
        if step % self._every:
            return
        try:
            with torch.no_grad():
                for kind, find in self._kinds.items():
                    self._publish(kind, find(), step)
        except Exception as error:  # noqa: BLE001 - a device may fail in any way, training goes on
            self._say(f"a sample for run.watch failed: {error_text(error)}")

    def _gradients(self) -> dict[str, torch.Tensor]:
        found = {name: each.grad for name, each in self._parameters.items()}
        return {
            name: replicated_part(gradient).detach()
            for name, gradient in found.items()
            if gradient is not None
        }

    def _values(self) -> dict[str, torch.Tensor]:
        return {name: replicated_part(each).detach() for name, each in self._parameters.items()}

    def _publish(self, kind: str, found: dict[str, torch.Tensor], step: int) -> None:
        tensors = {name: each for name, each in found.items() if _is_plain(each)}
        if left_out := sorted(found.keys() - tensors.keys()):
            self._say(
                f"run.watch leaves out {kind} that are empty, sparse, sharded (their norm needs "
                "all ranks; log the norm of a full_tensor() that every rank calls) or no real "
                f"floating-point numbers: {', '.join(left_out)}"
            )
        if not found:
            self._say(
                f"run.watch found no {kind} at step {step}; call sample(step) after backward and "
                "before zero_grad"
            )
        if not tensors:
            return
        each = norms(tensors)
        named = {f"{kind}/norm/{name}": norm for name, norm in each.items()}
        self._run.log({f"{kind}/norm": total_norm(each.values()), **named}, step=step)
        if self._histograms:
            self._publish_histograms(kind, tensors, step)

    def _publish_histograms(self, kind: str, tensors: dict[str, torch.Tensor], step: int) -> None:
        made = time.time()
        by_place: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        found = {name: histogram(tensor) for name, tensor in tensors.items()}
        for name, (_, peak) in found.items():
            by_place.setdefault((peak.device, peak.dtype), []).append(name)
        for names in by_place.values():
            counts = torch.stack([found[name][0] for name in names])
            peaks = torch.stack([found[name][1] for name in names]).reshape(-1, 1)
            copies = HostCopies(counts, peaks)
            for row, name in enumerate(names):
                late = _LateHistogram(f"{kind}/{name}", copies, row, step, made)
                self._run.publish_late(made, f"histogram of {kind}/{name}", late)

    def _say(self, text: str) -> None:
        """Log something once."""
        if text not in self._said and len(self._said) < 8:
            self._said.add(text)
            log.warning("%s", text)


class _LateHistogram:
    """One histogram, in a row of arrays that are on their way."""

    def __init__(self, key: str, copies: HostCopies, row: int, step: int, made: float) -> None:
        self._key = key
        self._copies = copies
        self._row = row
        self._step = step
        self._made = made

    def ready(self) -> bool:
        """Whether the arrays have arrived."""
        return self._copies.ready()

    def event(self) -> Event:
        """The histogram, with the time at which it was taken."""
        (peak,) = self._copies.row(1, self._row)
        return HistogramLogged(
            time=self._made,
            step=self._step,
            key=self._key,
            counts=self._copies.row(0, self._row),
            edges=edges(peak),
        )


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether norm and histogram of it mean something and need no other process."""
    return (
        tensor.layout == torch.strided
        and tensor.is_floating_point()
        and tensor.numel() > 0
        and not is_distributed(tensor)
    )
