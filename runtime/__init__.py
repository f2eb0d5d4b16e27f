"""The synchronous side: `Run` for a training loop of one's own, policies, and device tensors.

```
import runtime

with runtime.Run(name="gpt") as run:
    for step, batch in enumerate(loader, start=1):
        loss = train_step(batch)
        run.log({"loss": loss}, step=step)
        if run.safe_point(step).stop:
            break
```

Names are imported when first used, so that commands which only read runs never load torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus import register_sink
    from runtime._arguments import TrainingArguments
    from runtime._choices import (
        HubStrategy,
        IntervalStrategy,
        OptimizerNames,
        SaveStrategy,
        SchedulerType,
    )
    from runtime._device import CpuSnapshots, CudaSnapshots, HostValues, Snapshots
    from runtime._identity import Resume
    from runtime._metrics import Scalar
    from runtime._policies import EarlyStopping, Patience
    from runtime._run import Run
    from runtime._seeds import enable_full_determinism, set_seed

__all__ = [
    "CpuSnapshots",
    "CudaSnapshots",
    "EarlyStopping",
    "HostValues",
    "HubStrategy",
    "IntervalStrategy",
    "OptimizerNames",
    "Patience",
    "Resume",
    "Run",
    "SaveStrategy",
    "Scalar",
    "SchedulerType",
    "Snapshots",
    "TrainingArguments",
    "enable_full_determinism",
    "register_sink",
    "set_seed",
]

_HOME = {
    "CpuSnapshots": "_device",
    "CudaSnapshots": "_device",
    "EarlyStopping": "_policies",
    "HostValues": "_device",
    "HubStrategy": "_choices",
    "IntervalStrategy": "_choices",
    "OptimizerNames": "_choices",
    "Patience": "_policies",
    "Resume": "_identity",
    "Run": "_run",
    "SaveStrategy": "_choices",
    "Scalar": "_metrics",
    "SchedulerType": "_choices",
    "Snapshots": "_device",
    "TrainingArguments": "_arguments",
    "enable_full_determinism": "_seeds",
    "set_seed": "_seeds",
}


def __getattr__(name: str) -> object:
    if name == "register_sink":
        return importlib.import_module("bus").register_sink
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
