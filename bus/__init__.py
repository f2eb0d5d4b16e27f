"""The event bus of a training run: publish without waiting, keep everything, decide from anywhere.

Each event where it fires in a training loop; those in parentheses are live-only and not even built
unless somebody asked for them:

```
RunStarted                                     runtime.Run(...)
  TrainerInitialized                           the loop and its state exist
  TrainBegan                                   model, optimizer and data are ready
  for epoch in epochs:
      EpochBegan
      for batches of one optimizer step:
          (StepBegan)
          for micro-batch in batches:
              forward, backward
              (SubstepEnded)                   unless it is the step's last
          clip gradients
          (OptimizerStepBegan)
          optimizer.step()
          (OptimizerStepEnded)
          scheduler.step(), zero_grad(), step += 1
          (StepEnded)
          -- safe point --                     DecisionApplied for each request that takes effect
          log:       MetricsLogged             run.log(...)
          evaluate:  (PredictionStepEnded)*, MetricsLogged, Evaluated
          save:      CheckpointSaved, ArtifactReady
      EpochEnded                               then log, evaluate, save again
  MetricsLogged, TrainEnded                    the summary; the best model is loaded
  Predicted                                    after predict()
  PushBegan                                    an upload to a hub begins
RunEnded                                       outcome finished, failed, stopped, preempted

at any time:  ParametersLogged  MetricDefined  TextLogged  MessageLogged  HistogramLogged
              MediaLogged  SummaryLogged  ConsoleLineLogged  SystemMetricsLogged  AlertRaised
              AnomalyDetected  StallDetected  StallEnded  StragglerDetected
from the bus: Gap (so many events were lost here, and why)  RequestRefused  SubscriberFailed
```

The training thread publishes and reads decisions; a writer thread journals; subscribers, and
deliveries to destinations (`Sink`), run on a loop thread. Reading a run (`JournalReader`,
`RunInfo`, `run_state`) needs none of the three; `sync_run` delivers one without its process.
"""

import importlib
from typing import TYPE_CHECKING

from bus._account import Account
from bus._bus import Bus
from bus._control import Control, Handle, current_subscriber
from bus._deciders import Decider
from bus._deferred import DeviceEvent, DeviceValues
from bus._errors import (
    BusError,
    ClosedError,
    DeadlockError,
    DecisionTimeoutError,
    DeviceValueError,
    EventDefinitionError,
    LoggingError,
    RanksError,
    RunNotFoundError,
)
from bus._event import SCHEMA_VERSION, Event, Metrics, Text, UnknownEvent, decode, encode
from bus._events import (
    AlertRaised,
    AnomalyDetected,
    AnomalyKind,
    ArtifactReady,
    ConsoleLineLogged,
    DecisionApplied,
    Gap,
    HistogramLogged,
    JsonObject,
    Level,
    MediaLogged,
    MessageLogged,
    MetricDefined,
    Outcome,
    ParametersLogged,
    RequestRefused,
    RunEnded,
    RunStarted,
    SinkStateChanged,
    SinkStatus,
    SubscriberFailed,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
)
from bus._folder_hold import FolderHold, unheld
from bus._hooks import (
    CheckpointSaved,
    EpochBegan,
    EpochEnded,
    Evaluated,
    MetricsLogged,
    OptimizerStepBegan,
    OptimizerStepEnded,
    Predicted,
    PredictionStepEnded,
    PushBegan,
    StepBegan,
    StepEnded,
    SubstepEnded,
    TrainBegan,
    TrainEnded,
    TrainerInitialized,
)
from bus._inbox import MetricsDraft, OnFull
from bus._interrupts import deferred_interrupt, interrupts_like
from bus._leases import Leases
from bus._lifetime import Closable, forget, track
from bus._live import Body
from bus._mailbox import MAILBOX_FOLDER, post
from bus._options import BusOptions, Deliver, Durability
from bus._plain import (
    is_exact_number,
    looks_secret,
    mask_urls,
    masked_command,
    plain,
    plain_mapping,
    show,
    well_formed,
)
from bus._rank_store import RankStore
from bus._reader import Attempt, JournalReader, Record, Row
from bus._registration import Decide, On, Registrar, Subscribe
from bus._requests import (
    Decision,
    Evaluate,
    Log,
    Preempt,
    Request,
    Resolution,
    Save,
    SetLearningRate,
    Stop,
)
from bus._rundir import (
    JOURNAL_FOLDER,
    AttemptInfo,
    RunInfo,
    RunState,
    create_run_dir,
    find_run,
    folder_name,
    next_attempt,
    run_state,
)
from bus._sink_account import SinkAccount
from bus._statistics import DeciderStatistics, LatencyHistogram, Statistics, SubscriberStatistics
from bus._subscription import EventStream, Filter, OnError, Overflow, Subscription
from bus._watch_events import RankStacks, StallDetected, StallEnded, StallKind, StragglerDetected

if TYPE_CHECKING:
    from bus._cursor import Cursor, StillOwnedError, list_cursors
    from bus._failures import (
        Backoff,
        DeliveryError,
        HeldBackError,
        MisconfiguredError,
        RejectedError,
        Response,
        UnavailableError,
    )
    from bus._patience import Pace
    from bus._registry import (
        SINKS,
        MissingPackageError,
        ReportTo,
        SinkInfo,
        UnknownSinkError,
        register_sink,
    )
    from bus._sink import (
        Batch,
        BatchLimits,
        BlockingSink,
        Coalesces,
        Promise,
        Sink,
        SinkContext,
        State,
    )
    from bus._sink_settings import NotConfiguredError, SinkSettings, SwitchedOffError
    from bus._sync import resend_dead, sink_context, sync_run

_LAZY = {
    "Cursor": "bus._cursor",
    "StillOwnedError": "bus._cursor",
    "list_cursors": "bus._cursor",
    "Backoff": "bus._failures",
    "DeliveryError": "bus._failures",
    "HeldBackError": "bus._failures",
    "MisconfiguredError": "bus._failures",
    "RejectedError": "bus._failures",
    "Response": "bus._failures",
    "UnavailableError": "bus._failures",
    "Pace": "bus._patience",
    "Batch": "bus._sink",
    "BatchLimits": "bus._sink",
    "BlockingSink": "bus._sink",
    "Coalesces": "bus._sink",
    "NotConfiguredError": "bus._sink_settings",
    "Promise": "bus._sink",
    "Sink": "bus._sink",
    "SinkContext": "bus._sink",
    "SinkSettings": "bus._sink_settings",
    "State": "bus._sink",
    "SwitchedOffError": "bus._sink_settings",
    "MissingPackageError": "bus._registry",
    "ReportTo": "bus._registry",
    "SINKS": "bus._registry",
    "SinkInfo": "bus._registry",
    "UnknownSinkError": "bus._registry",
    "register_sink": "bus._registry",
    "resend_dead": "bus._sync",
    "sink_context": "bus._sync",
    "sync_run": "bus._sync",
}
"""What only programs with sinks need, imported when it is asked for."""

__all__ = [
    "JOURNAL_FOLDER",
    "MAILBOX_FOLDER",
    "SCHEMA_VERSION",
    "SINKS",
    "Account",
    "AlertRaised",
    "AnomalyDetected",
    "AnomalyKind",
    "ArtifactReady",
    "Attempt",
    "AttemptInfo",
    "Backoff",
    "Batch",
    "BatchLimits",
    "BlockingSink",
    "Body",
    "Bus",
    "BusError",
    "BusOptions",
    "CheckpointSaved",
    "Closable",
    "ClosedError",
    "Coalesces",
    "ConsoleLineLogged",
    "Control",
    "Cursor",
    "DeadlockError",
    "Decide",
    "Decider",
    "DeciderStatistics",
    "Decision",
    "DecisionApplied",
    "DecisionTimeoutError",
    "Deliver",
    "DeliveryError",
    "DeviceEvent",
    "DeviceValueError",
    "DeviceValues",
    "Durability",
    "EpochBegan",
    "EpochEnded",
    "Evaluate",
    "Evaluated",
    "Event",
    "EventDefinitionError",
    "EventStream",
    "Filter",
    "FolderHold",
    "Gap",
    "Handle",
    "HeldBackError",
    "HistogramLogged",
    "JournalReader",
    "JsonObject",
    "LatencyHistogram",
    "Leases",
    "Level",
    "Log",
    "LoggingError",
    "MediaLogged",
    "MessageLogged",
    "MetricDefined",
    "Metrics",
    "MetricsDraft",
    "MetricsLogged",
    "MisconfiguredError",
    "MissingPackageError",
    "NotConfiguredError",
    "On",
    "OnError",
    "OnFull",
    "OptimizerStepBegan",
    "OptimizerStepEnded",
    "Outcome",
    "Overflow",
    "Pace",
    "ParametersLogged",
    "Predicted",
    "PredictionStepEnded",
    "Preempt",
    "Promise",
    "PushBegan",
    "RankStacks",
    "RankStore",
    "RanksError",
    "Record",
    "Registrar",
    "RejectedError",
    "ReportTo",
    "Request",
    "RequestRefused",
    "Resolution",
    "Response",
    "Row",
    "RunEnded",
    "RunInfo",
    "RunNotFoundError",
    "RunStarted",
    "RunState",
    "Save",
    "SetLearningRate",
    "Sink",
    "SinkAccount",
    "SinkContext",
    "SinkInfo",
    "SinkSettings",
    "SinkStateChanged",
    "SinkStatus",
    "StallDetected",
    "StallEnded",
    "StallKind",
    "State",
    "Statistics",
    "StepBegan",
    "StepEnded",
    "StillOwnedError",
    "Stop",
    "StragglerDetected",
    "Subscribe",
    "SubscriberFailed",
    "SubscriberStatistics",
    "Subscription",
    "SubstepEnded",
    "SummaryLogged",
    "SwitchedOffError",
    "SystemMetricsLogged",
    "Text",
    "TextLogged",
    "TrainBegan",
    "TrainEnded",
    "TrainerInitialized",
    "UnavailableError",
    "UnknownEvent",
    "UnknownSinkError",
    "create_run_dir",
    "current_subscriber",
    "decode",
    "deferred_interrupt",
    "encode",
    "find_run",
    "folder_name",
    "forget",
    "interrupts_like",
    "is_exact_number",
    "list_cursors",
    "looks_secret",
    "mask_urls",
    "masked_command",
    "next_attempt",
    "plain",
    "plain_mapping",
    "post",
    "register_sink",
    "resend_dead",
    "run_state",
    "show",
    "sink_context",
    "sync_run",
    "track",
    "unheld",
    "well_formed",
]


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'bus' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
