"""Adafactor with an external learning rate (Shazeer & Stern 2018, arXiv 1804.04235).

For each matrix it keeps the means of the squared gradients by row and by column instead of all of
them. `torch.optim.Adafactor` scales each update by its parameter's size; Transformers' trainer asks
for one that does not, which is this one, with the state and the group's entries that it stores.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer


class Adafactor(Optimizer):
    """Adafactor without relative steps, parameter scaling and momentum.

    Nothing in a step reads a value on the host.

    Args:
        params: Parameters or groups of them.
        lr: The learning rate.
        eps: What is added to each squared gradient, first; the second is only stored.
        clip_threshold: Root mean square above which an update is scaled down.
        decay_rate: Exponent of the step in the running means' decay, below 0.
        weight_decay: Share of a parameter, times the learning rate, that each step takes off.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, object]],
        *,
        lr: float,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults: dict[str, object] = {
            "lr": lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "decay_rate": decay_rate,
            "beta1": None,
            "weight_decay": weight_decay,
            "scale_parameter": False,
            "relative_step": False,
            "warmup_init": False,
        }
        super().__init__(params, defaults)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch overloads on None # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Update every parameter that has a gradient.

        Raises:
            RuntimeError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            settings = _Settings(
                rate=group["lr"],
                floor=group["eps"][0],
                ceiling=group["clip_threshold"],
                decay_rate=group["decay_rate"],
                weight_decay=group["weight_decay"],
            )
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, settings)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, settings: "_Settings") -> None:
        if gradient.is_sparse:
            raise RuntimeError("Adafactor takes no sparse gradients: use dense embeddings, or sgd")
        gradient, value = _wide(gradient), _wide(parameter)
        state: dict[str, Tensor] = self.state[parameter]
        steps: int = self.state[parameter].get("step", 0) + 1
        means = _means(state, gradient)
        keep = 1.0 - math.pow(steps, settings.decay_rate)
        update = _preconditioned(means, gradient, keep, settings.floor)
        self.state[parameter].update(step=steps, RMS=_root_mean_square(value), **means)
        excess = _root_mean_square(update) / settings.ceiling
        update.div_(excess.clamp_(min=1.0)).mul_(settings.rate)
        if settings.weight_decay != 0:
            value.add_(value, alpha=-settings.weight_decay * settings.rate)
        value.sub_(update)
        if value is not parameter:
            parameter.copy_(value)


class _Settings(NamedTuple):
    rate: float
    floor: float
    ceiling: float
    decay_rate: float
    weight_decay: float


def _means(state: dict[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
    """The running means, made at the first step, in the gradient's type after a load."""
    if gradient.dim() < 2:
        shapes = {"exp_avg_sq": gradient.shape}
    else:
        shapes = {
            "exp_avg_sq_row": gradient.shape[:-1],
            "exp_avg_sq_col": gradient.shape[:-2] + gradient.shape[-1:],
        }
    return {
        name: state[name].to(gradient) if name in state else gradient.new_zeros(shape)
        for name, shape in shapes.items()
    }


def _preconditioned(
    means: dict[str, Tensor], gradient: Tensor, keep: float, floor: float
) -> Tensor:
    """The gradient over the root of its squares' running mean, algorithm 4 of the paper."""
    square = gradient.square() + floor
    if gradient.dim() < 2:
        mean = means["exp_avg_sq"].mul_(keep).add_(square, alpha=1.0 - keep)
        return mean.rsqrt().mul_(gradient)
    rows = means["exp_avg_sq_row"].mul_(keep).add_(square.mean(dim=-1), alpha=1.0 - keep)
    columns = means["exp_avg_sq_col"].mul_(keep).add_(square.mean(dim=-2), alpha=1.0 - keep)
    by_row = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
    return torch.mul(by_row, columns.unsqueeze(-2).rsqrt()).mul_(gradient)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _root_mean_square(tensor: Tensor) -> Tensor:
    norm = cast("Tensor", torch.linalg.vector_norm(tensor))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    return norm / math.sqrt(tensor.numel())
