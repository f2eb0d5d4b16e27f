"""Keeps torch.compile out of functions that must run as they are written, at no cost to callers."""

import types
from collections.abc import Callable
from typing import TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., object])


def never_compiled(function: F) -> F:
    """Have torch.compile break its graph at this function instead of tracing into it.

    Like `torch.compiler.disable`, which would import the whole compiler here and now. The wrapper
    costs each call a microsecond.
    """
    wrap = cast("Callable[[F], F]", torch._disable_dynamo)  # type: ignore[attr-defined]  # noqa: SLF001 - see above # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    return wrap(function)


def run_as_written(function: F) -> F:
    """Have torch.compile leave this function, and all that it calls, alone; without a wrapper.

    Breaking the graph at a function is not enough: Dynamo then compiles the function's own frame,
    anew for each set of keys in a dictionary it is given, up to its limit and with a warning.
    Where torch cannot be told so by the frame's code, that is what happens.
    """
    plain = cast("types.FunctionType", function)
    plain.__dict__["_torchdynamo_disable"] = True
    try:
        from torch._C._dynamo import (  # noqa: PLC0415 - absent from older versions
            eval_frame,
        )

        skip = eval_frame._FrameAction.SKIP  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public name
        strategy = eval_frame._FrameExecStrategy(skip, skip)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as above
        eval_frame.set_code_exec_strategy(plain.__code__, strategy)
    except (ImportError, AttributeError):  # pragma: no cover - depends on torch's version
        pass
    return function
