"""What taking 64 scalars, and guarding a loss, costs the thread that calls.

Started by `gpu.py` as `python _gpu_case.py FOLDER PLAN`; prints a `TakingResult` as JSON.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _gpu_result import TakingPlan, TakingResult
from _trainer_work import BATCH, LARGE

import runtime
from runtime.demo._model import ByteGPT
from runtime.demo._options import FULL

_PAUSE_EVERY = 50
"""Calls between two waits for the device, so that its queue is never full."""


def time_calls(call: Callable[[int], object], plan: TakingPlan) -> list[int]:
    """Time each call while the device has something else to do."""
    square = torch.randn(1024 if plan.device == "cuda" else 16, device=plan.device).diag()
    durations: list[int] = []
    for number in range(-_PAUSE_EVERY, plan.calls):
        square @ square
        began = time.perf_counter_ns()
        call(number)
        if number >= 0:
            durations.append(time.perf_counter_ns() - began)
        if number % _PAUSE_EVERY == 0 and plan.device == "cuda":
            torch.cuda.synchronize()
    return durations


def measure_case(folder: Path, plan: TakingPlan) -> TakingResult:
    """Time the calls that the command line describes."""
    scalars = {f"m{number}": torch.rand((), device=plan.device) for number in range(64)}
    loss, norm = torch.ones((), device=plan.device), torch.ones((), device=plan.device)
    calls: dict[str, list[int]] = {}
    with runtime.Run("taking", dir=folder) as run:
        guard = run.guard()
        calls["run.log"] = time_calls(lambda step: run.log(scalars, step=max(step, 0)), plan)
        calls["guard.check"] = time_calls(
            lambda step: guard.check(loss, step=step, grad_norm=norm), plan
        )
    shape, work = (LARGE, "large") if plan.device == "cuda" else (FULL.shape, "gpt")
    with torch.device("meta"):
        parameters = sum(each.numel() for each in ByteGPT(shape).parameters())
    return TakingResult(
        calls=calls, parameters=parameters, batch=f"{BATCH[work]} x {shape.context}"
    )


if __name__ == "__main__":
    where, given = sys.argv[1:]
    made = measure_case(Path(where), TakingPlan.model_validate_json(given))
    print(made.model_dump_json())
