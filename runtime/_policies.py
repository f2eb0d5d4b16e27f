"""Decisions as pure functions of what was measured, to be used in a loop or as deciders."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from bus import Evaluated, Request, Stop


@dataclass(frozen=True, slots=True)
class Patience:
    """What early stopping remembers between evaluations.

    Attributes:
        best: The best value so far; None before the first.
        best_step: Where it was reached, if the evaluation had a step.
        failures: Evaluations since then that were no improvement.
    """

    best: float | None = None
    best_step: int | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stop when a metric has not improved for `patience` evaluations in a row.

    An improvement must exceed `min_delta`. NaN is never one. Pure: `update` returns the new state
    and leaves everything else alone, so that a seeded run ends at the same step each time.

    Args:
        metric: Key in `Evaluated.metrics`.
        patience: Evaluations without improvement that are tolerated, 1 or more.
        min_delta: How much better counts as better, 0 or more.
        goal: Which direction is better.

    Raises:
        ValueError: An argument is out of range.
    """

    metric: str = "loss"
    patience: int = 3
    min_delta: float = 0.0
    goal: Literal["minimize", "maximize"] = "minimize"

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience={self.patience} must be 1 or more evaluations")
        if not (self.min_delta >= 0 and math.isfinite(self.min_delta)):
            raise ValueError(f"min_delta={self.min_delta} must be finite and 0 or more")
        if self.goal not in ("minimize", "maximize"):
            raise ValueError(f'goal={self.goal!r} must be "minimize" or "maximize"')

    def update(self, state: Patience, value: float, step: int | None = None) -> Patience:
        """The state after one more evaluation."""
        if self.improves(value, state.best):
            return Patience(value, step, 0)
        return Patience(state.best, state.best_step, state.failures + 1)

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far by more than `min_delta`."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        gain = best - value if self.goal == "minimize" else value - best
        return gain > self.min_delta

    def exhausted(self, state: Patience) -> bool:
        """Whether it is time to stop."""
        return state.failures >= self.patience

    def reason(self, state: Patience) -> str:
        """Why it is time to stop, for the journal."""
        where = "" if state.best_step is None else f" at step {state.best_step}"
        best = "never a number" if state.best is None else f"best {state.best:.6g}{where}"
        return f"{self.metric} has not improved in {state.failures} evaluations ({best})"

    def decider(
        self, state: Patience | None = None
    ) -> Callable[[Evaluated], Awaitable[Request | None]]:
        """A decider of `Evaluated` that remembers: `run.decider(Evaluated)(policy.decider())`.

        Evaluations without the metric are passed over.

        Args:
            state: Where to go on from after a resume; a fresh state by default.
        """
        memory = [state or Patience()]

        async def early_stopping(event: Evaluated) -> Request | None:
            value = event.metrics.get(self.metric)
            if value is None:
                return None
            memory[0] = self.update(memory[0], value, event.step)
            return Stop(reason=self.reason(memory[0])) if self.exhausted(memory[0]) else None

        return early_stopping
