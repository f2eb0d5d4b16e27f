"""The loop that the recipes subscribe to: eight weights learn a sum, and every request is obeyed.

It stands for a training of one's own. What a recipe adds is beside it, never in it.
"""

from pathlib import Path

import torch

import runtime
from bus import Evaluated


def train(
    run: runtime.Run,
    *,
    steps: int = 300,
    rate: float = 0.05,
    evaluate_each: int = 50,
    spoil_at: int | None = None,
) -> int:
    """Train, log each step, and do what is asked for at the safe points.

    Args:
        run: What to log to.
        steps: At most so many.
        rate: The learning rate to begin with.
        evaluate_each: Steps between evaluations.
        spoil_at: From this step on the data is not a number.

    Returns:
        The last step.
    """
    source = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(8, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    for step in range(1, steps + 1):
        inputs = torch.randn(32, 8, generator=source)
        if spoil_at is not None and step >= spoil_at:
            inputs[0, 0] = torch.nan
        loss = _loss(model, inputs)
        (gradient,) = torch.autograd.grad(loss, [model.weight])
        model.weight.data -= rate * gradient
        run.log(
            {"loss": loss, "gradient_norm": gradient.square().sum().sqrt(), "rate": rate},
            step=step,
        )
        decision = run.safe_point(step)
        rate = decision.learning_rate or rate
        if decision.evaluate or step % evaluate_each == 0:
            _evaluate(run, model, step)
        if decision.save:
            save(run, model, step)
        if decision.stop:
            return step
    return steps


def save(run: runtime.Run, model: torch.nn.Module, step: int) -> Path:
    """Write a checkpoint, and announce it once it is complete."""
    path = run.dir / f"checkpoint-{step}.pt"
    torch.save(model.state_dict(), path)
    run.artifact(path, kind="checkpoint", step=step)
    return path


def _loss(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
    return loss


@torch.no_grad()
def _evaluate(run: runtime.Run, model: torch.nn.Module, step: int) -> None:
    inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    run.publish(Evaluated(step=step, metrics={"eval_loss": float(_loss(model, inputs))}))
