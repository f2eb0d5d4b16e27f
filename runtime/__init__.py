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
    from runtime._callback_handler import DEFAULT_CALLBACKS, CallbackHandler
    from runtime._callbacks import TrainerCallback
    from runtime._checkpoint_errors import CheckpointError
    from runtime._choices import (
        HubStrategy,
        IntervalStrategy,
        OptimizerNames,
        SaveStrategy,
        SchedulerType,
    )
    from runtime._collate import default_data_collator
    from runtime._console import Console
    from runtime._consolidation import consolidate
    from runtime._default_flow import DefaultFlowCallback
    from runtime._device import CpuSnapshots, CudaSnapshots, HostValues, Snapshots
    from runtime._early_stopping import EarlyStoppingCallback
    from runtime._flops import FlopCounter, peak_flops
    from runtime._hub import PushError
    from runtime._identity import Resume
    from runtime._logs import Logs
    from runtime._loss_guard import LossGuard
    from runtime._metrics import Scalar
    from runtime._monitors import Monitor
    from runtime._outputs import EvalLoopOutput, EvalPrediction, PredictionOutput, TrainOutput
    from runtime._policies import EarlyStopping, Patience
    from runtime._preemption import Preempted
    from runtime._progress_callbacks import PrinterCallback, ProgressCallback
    from runtime._run import Run
    from runtime._seeds import enable_full_determinism, set_seed
    from runtime._state import TRAINER_STATE_NAME, ExportableState, TrainerControl, TrainerState
    from runtime._trainer import Trainer
    from runtime._watch import Watch

__all__ = [
    "DEFAULT_CALLBACKS",
    "TRAINER_STATE_NAME",
    "CallbackHandler",
    "CheckpointError",
    "Console",
    "CpuSnapshots",
    "CudaSnapshots",
    "DefaultFlowCallback",
    "EarlyStopping",
    "EarlyStoppingCallback",
    "EvalLoopOutput",
    "EvalPrediction",
    "ExportableState",
    "FlopCounter",
    "HostValues",
    "HubStrategy",
    "IntervalStrategy",
    "Logs",
    "LossGuard",
    "Monitor",
    "OptimizerNames",
    "Patience",
    "PredictionOutput",
    "Preempted",
    "PrinterCallback",
    "ProgressCallback",
    "PushError",
    "Resume",
    "Run",
    "SaveStrategy",
    "Scalar",
    "SchedulerType",
    "Snapshots",
    "TrainOutput",
    "Trainer",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "TrainingArguments",
    "Watch",
    "consolidate",
    "default_data_collator",
    "enable_full_determinism",
    "peak_flops",
    "register_sink",
    "set_seed",
]

_HOME = {
    "CallbackHandler": "_callback_handler",
    "CheckpointError": "_checkpoint_errors",
    "Console": "_console",
    "CpuSnapshots": "_device",
    "CudaSnapshots": "_device",
    "DEFAULT_CALLBACKS": "_callback_handler",
    "DefaultFlowCallback": "_default_flow",
    "EarlyStopping": "_policies",
    "EarlyStoppingCallback": "_early_stopping",
    "EvalLoopOutput": "_outputs",
    "EvalPrediction": "_outputs",
    "ExportableState": "_state",
    "FlopCounter": "_flops",
    "HostValues": "_device",
    "HubStrategy": "_choices",
    "IntervalStrategy": "_choices",
    "Logs": "_logs",
    "LossGuard": "_loss_guard",
    "Monitor": "_monitors",
    "OptimizerNames": "_choices",
    "Patience": "_policies",
    "PredictionOutput": "_outputs",
    "Preempted": "_preemption",
    "PrinterCallback": "_progress_callbacks",
    "ProgressCallback": "_progress_callbacks",
    "PushError": "_hub",
    "Resume": "_identity",
    "Run": "_run",
    "SaveStrategy": "_choices",
    "Scalar": "_metrics",
    "SchedulerType": "_choices",
    "Snapshots": "_device",
    "TRAINER_STATE_NAME": "_state",
    "TrainOutput": "_outputs",
    "Trainer": "_trainer",
    "TrainerCallback": "_callbacks",
    "TrainerControl": "_state",
    "TrainerState": "_state",
    "TrainingArguments": "_arguments",
    "Watch": "_watch",
    "consolidate": "_consolidation",
    "default_data_collator": "_collate",
    "enable_full_determinism": "_seeds",
    "peak_flops": "_flops",
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
