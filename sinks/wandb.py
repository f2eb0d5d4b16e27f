"""Writes a run to Weights & Biases over its HTTP interface, without its client."""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint
from pydantic import JsonValue

from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    Event,
    MediaLogged,
    MisconfiguredError,
    Outcome,
    Promise,
    RejectedError,
    Response,
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
    Stop,
)
from sinks import HttpSink
from sinks._wandb_answers import classify
from sinks._wandb_artifacts import Artifacts
from sinks._wandb_begin import begin, masked
from sinks._wandb_media import Media, look
from sinks._wandb_models import final
from sinks._wandb_plan import Alert, Configure, Step, StoreArtifact, StoreFile, Stream
from sinks._wandb_send import Sender
from sinks._wandb_server import Place, RemoteRun, WandbServer
from sinks._wandb_settings import WandbSettings
from sinks._wandb_state import Memory
from sinks._wandb_translation import WANTED, Translation
from sinks._wandb_values import configuration, decoded

__all__ = ["WandbSettings", "WandbSink"]
