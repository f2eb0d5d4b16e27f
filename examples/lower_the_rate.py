"""Halves the learning rate when evaluations no longer get better.

A decider, unlike a subscriber, is waited for: the rate changes at the same step in every run with
the same seed.

    python examples/lower_the_rate.py
"""

from small_loop import train

import runtime
from bus import DecisionApplied, Evaluated, SetLearningRate


def lower_the_rate(
    run: runtime.Run, *, rate: float, factor: float = 0.5, patience: int = 2, least: float = 1e-6
) -> None:
    """Multiply the rate by `factor` after `patience` evaluations without a better `eval_loss`."""
    best = float("inf")
    bad = 0

    @run.decider(Evaluated, deadline=5.0)
    async def plateau(event: Evaluated) -> SetLearningRate | None:
        nonlocal best, bad, rate
        loss = event.metrics["eval_loss"]
        best, bad = (loss, 0) if loss < best else (best, bad + 1)
        if bad < patience or rate <= least:
            return None
        bad, rate = 0, max(rate * factor, least)
        return SetLearningRate(value=rate, reason=f"{patience} evaluations without a better loss")


def main() -> list[float]:
    """Train with a rate that is too high at first; returns the rates it was lowered to."""
    rates: list[float] = []
    with runtime.Run(name="lower_the_rate") as run:
        lower_the_rate(run, rate=0.4)

        @run.on(DecisionApplied)
        async def remember(event: DecisionApplied) -> None:
            rates.append(SetLearningRate.model_validate(event.request).value)

        train(run, rate=0.4, evaluate_each=20)
    return rates


if __name__ == "__main__":
    print("rates:", *main())
