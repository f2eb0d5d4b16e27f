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
    from runtime._callback_handler import DEFAULT_CALLBACKS, CallbackHandler
    from runtime._callbacks import TrainerCallback
    from runtime._default_flow import DefaultFlowCallback
    from runtime._device import CpuSnapshots, CudaSnapshots, HostValues, Snapshots
    from runtime._early_stopping import EarlyStoppingCallback
    from runtime._identity import Resume
    from runtime._logs import Logs
    from runtime._metrics import Scalar
    from runtime._policies import EarlyStopping, Patience
    from runtime._progress_callbacks import PrinterCallback, ProgressCallback
    from runtime._run import Run
    from runtime._state import TRAINER_STATE_NAME, ExportableState, TrainerControl, TrainerState

__all__ = [
    "DEFAULT_CALLBACKS",
    "TRAINER_STATE_NAME",
    "CallbackHandler",
    "CpuSnapshots",
    "CudaSnapshots",
    "DefaultFlowCallback",
    "EarlyStopping",
    "EarlyStoppingCallback",
    "ExportableState",
    "HostValues",
    "Logs",
    "Patience",
    "PrinterCallback",
    "ProgressCallback",
    "Resume",
    "Run",
    "Scalar",
    "Snapshots",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "register_sink",
]

_HOME = {
    "CallbackHandler": "_callback_handler",
    "CpuSnapshots": "_device",
    "CudaSnapshots": "_device",
    "DEFAULT_CALLBACKS": "_callback_handler",
    "DefaultFlowCallback": "_default_flow",
    "EarlyStopping": "_policies",
    "EarlyStoppingCallback": "_early_stopping",
    "ExportableState": "_state",
    "HostValues": "_device",
    "Logs": "_logs",
    "Patience": "_policies",
    "PrinterCallback": "_progress_callbacks",
    "ProgressCallback": "_progress_callbacks",
    "Resume": "_identity",
    "Run": "_run",
    "Scalar": "_metrics",
    "Snapshots": "_device",
    "TRAINER_STATE_NAME": "_state",
    "TrainerCallback": "_callbacks",
    "TrainerControl": "_state",
    "TrainerState": "_state",
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
