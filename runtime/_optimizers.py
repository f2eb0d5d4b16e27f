"""Makes the optimizers that training arguments name, with weight decay where it belongs.

Groups, their order and what a state holds are those of Transformers' Trainer, so that either loads
the other's optimizer.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import torch
from torch import nn

from runtime._adafactor import Adafactor
from runtime._choices import OptimizerNames

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments

log = logging.getLogger("runtime")

Group: TypeAlias = "dict[str, list[nn.Parameter] | float]"

_EXEMPT: Final = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Lower-case names of parameters that do not decay."""

_OPTIONS: Final[Mapping[OptimizerNames, Mapping[str, type[float] | type[bool]]]] = {
    OptimizerNames.SGD: {"momentum": float, "dampening": float, "nesterov": bool},
    OptimizerNames.ADAGRAD: {"lr_decay": float, "eps": float},
    OptimizerNames.RMSPROP: {"momentum": float, "alpha": float, "eps": float, "centered": bool},
}
"""What `optim_args` may set; weight decay is a training argument of its own."""

_TRUE: Final = ("true", "1", "yes")
_FALSE: Final = ("false", "0", "no")


def create_optimizer(model: nn.Module, args: "TrainingArguments") -> torch.optim.Optimizer:
    """Make the optimizer of a model's parameters that require a gradient.

    Its first group decays, its second does not. Where torch has no fused AdamW for the parameters'
    device or type, the plain one is made, which computes the same, and a notice says so.

    Raises:
        ValueError: The model has nothing to train, or `optim_args` does not fit the optimizer.
    """
    groups = parameter_groups(model, args.weight_decay)
    if not any(group["params"] for group in groups):
        raise ValueError(
            f"{type(model).__name__} has no parameter that requires a gradient: unfreeze some, or "
            "hand over an optimizer with optimizers=(optimizer, None)"
        )
    name = OptimizerNames(args.optim)
    options = parse_options(name, args.optim_args)
    if name in (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED):
        return _adamw(groups, args, fused=name is OptimizerNames.ADAMW_TORCH_FUSED)
    return _PLAIN[name](groups, lr=args.learning_rate, **options)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """The parameters that require a gradient, in the model's order: decaying ones, then the rest.

    Everything decays but biases, parameters inside an `nn.LayerNorm`, and those whose name says
    that they belong to a norm ("norm" or "..._norm" between dots, "layernorm", "rmsnorm").
    """
    modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules(remove_duplicate=False))
    norms = tuple(
        f"{name}." for name, module in modules if name and isinstance(module, nn.LayerNorm)
    )
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            exempt = name.startswith(norms) or _EXEMPT.search(name.lower())
            (others if exempt else decaying).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def parse_options(name: OptimizerNames | str, text: str | None) -> dict[str, float | bool]:
    """Read `optim_args`, such as "momentum=0.9, nesterov=true".

    Raises:
        ValueError: It is not written like that, or the optimizer has no such option.
    """
    known = _OPTIONS.get(OptimizerNames(name), {})
    options: dict[str, float | bool] = {}
    for part in text.replace(" ", "").split(",") if text else ():
        key, equals, value = part.partition("=")
        if not (equals and key and value):
            raise ValueError(
                f"optim_args={text!r}: {part!r} must be written as name=value, "
                "separated by commas, such as 'momentum=0.9,nesterov=true'"
            )
        if key not in known:
            raise ValueError(f"optim_args={text!r}: {_unknown(OptimizerNames(name), key)}")
        options[key] = _read(text or "", key, value, known[key])
    return options


def _unknown(name: OptimizerNames, key: str) -> str:
    if key == "weight_decay":
        return "weight_decay would have no effect here; set the argument weight_decay"
    known = _OPTIONS.get(name)
    has = f"which has {', '.join(known)}" if known else "which has none"
    return f"{key} is no option of {name.value}, {has}"


def _read(text: str, key: str, value: str, kind: type[float] | type[bool]) -> float | bool:
    if kind is bool:
        if value.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(f"optim_args={text!r}: {key}={value} must be true or false")
        return value.lower() in _TRUE
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"optim_args={text!r}: {key}={value} must be a number") from None


def _adamw(groups: list[Group], args: "TrainingArguments", *, fused: bool) -> torch.optim.AdamW:
    def make(*, fused: bool | None) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            groups,
            lr=args.learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            fused=fused,
        )

    refusal = _refusal(groups) if fused else None
    if refusal is not None:
        log.warning("using AdamW that is not fused: %s", refusal)
    return make(fused=True if fused and refusal is None else None)


def _refusal(groups: list[Group]) -> str | None:
    """Why torch has no fused AdamW for the parameters; it would say so at the first step only.

    One step of a single number for each device and type finds out.
    """
    kinds = {
        (each.device, each.dtype)
        for group in groups
        for each in cast("list[nn.Parameter]", group["params"])
    }
    for device, dtype in kinds:
        probe = torch.zeros(1, device=device, dtype=dtype)
        probe.grad = torch.zeros_like(probe)
        try:
            torch.optim.AdamW([probe], fused=True).step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        except RuntimeError as error:
            return f"{device} with {dtype}: {error}"
    return None


_PLAIN: Final[Mapping[OptimizerNames, Callable[..., torch.optim.Optimizer]]] = {
    OptimizerNames.ADAFACTOR: Adafactor,
    OptimizerNames.SGD: torch.optim.SGD,
    OptimizerNames.ADAGRAD: torch.optim.Adagrad,
    OptimizerNames.RMSPROP: torch.optim.RMSprop,
}
