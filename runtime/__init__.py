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
    from runtime._collate import default_data_collator
    from runtime._device import CpuSnapshots, CudaSnapshots, HostValues, Snapshots
    from runtime._identity import Resume
    from runtime._metrics import Scalar
    from runtime._outputs import EvalLoopOutput, EvalPrediction, PredictionOutput, TrainOutput
    from runtime._policies import EarlyStopping, Patience
    from runtime._run import Run

__all__ = [
    "CpuSnapshots",
    "CudaSnapshots",
    "EarlyStopping",
    "EvalLoopOutput",
    "EvalPrediction",
    "HostValues",
    "Patience",
    "PredictionOutput",
    "Resume",
    "Run",
    "Scalar",
    "Snapshots",
    "TrainOutput",
    "default_data_collator",
    "register_sink",
]

_HOME = {
    "CpuSnapshots": "_device",
    "CudaSnapshots": "_device",
    "EarlyStopping": "_policies",
    "EvalLoopOutput": "_outputs",
    "EvalPrediction": "_outputs",
    "HostValues": "_device",
    "Patience": "_policies",
    "PredictionOutput": "_outputs",
    "Resume": "_identity",
    "Run": "_run",
    "Scalar": "_metrics",
    "Snapshots": "_device",
    "TrainOutput": "_outputs",
    "default_data_collator": "_collate",
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
