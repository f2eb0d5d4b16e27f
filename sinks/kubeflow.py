"""Tells Kubeflow Trainer how far a training is.

The interface is that of the controller's status server, as Transformers' callback uses it: a POST
of `{"trainerStatus": {...}}` with a service account's token.
"""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from pydantic import (
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    model_validator,
)

from bus import (
    Batch,
    BatchLimits,
    CheckpointSaved,
    DeliveryError,
    EpochBegan,
    EpochEnded,
    Evaluated,
    Event,
    MetricsLogged,
    MisconfiguredError,
    Outcome,
    Promise,
    Response,
    RunStarted,
    SinkContext,
    State,
    SwitchedOffError,
    TrainBegan,
    TrainEnded,
)
from sinks._bodies import in_thread
from sinks._http import HttpSettings, HttpSink
from sinks._scalars import Place

__all__ = ["KubeflowSink"]

_FRESH: Final = 300.0
"""Seconds for which a token is good; the cluster renews the file."""


class _Progress(Place):
    """What the controller is to know.

    Attributes:
        max_steps: Steps planned.
        first_step: The step that this attempt began with.
        began: When its training began, in Unix seconds.
        latest: When its latest event happened.
        epoch: Passes over the data so far.
        metrics: Each key's latest number, as text.
        complete: Whether the training has come to its end.
    """

    max_steps: PositiveInt | None = None
    first_step: NonNegativeInt = 0
    began: float = 0.0
    latest: float = 0.0
    epoch: NonNegativeFloat | None = None
    metrics: dict[str, str] = Field(default_factory=dict[str, str])
    complete: bool = False

    def learn(self, event: Event) -> None:
        """Take in an event."""
        self.pass_by(event)
        self.latest = max(self.latest, event.time)
        if isinstance(event, RunStarted):
            self.complete = False
        elif isinstance(event, TrainBegan):
            self.max_steps = event.max_steps or None
            self.began, self.first_step = event.time, self.step
        elif isinstance(event, (EpochBegan, EpochEnded)):
            self.epoch = event.epoch
        elif isinstance(event, TrainEnded):
            self.complete = True
        elif isinstance(event, (MetricsLogged, Evaluated)):
            self.metrics |= {key: str(value) for key, value in event.metrics.items()}
            self.epoch = event.metrics.get("epoch", self.epoch)

    def status(self) -> JsonValue:
        """It as the controller reads it."""
        status: dict[str, JsonValue] = {"lastUpdatedTime": datetime.now(UTC).isoformat()}
        metrics = dict(self.metrics)
        if self.max_steps is not None:
            metrics |= {"current_step": str(self.step), "total_steps": str(self.max_steps)}
        if self.epoch is not None:
            metrics["current_epoch"] = str(round(self.epoch, 2))
        if self.complete:
            status |= {"progressPercentage": 100, "estimatedRemainingSeconds": 0}
        elif self.max_steps is not None:
            status["progressPercentage"] = min(99, 100 * self.step // self.max_steps)
            if (left := self._seconds_left(self.max_steps)) is not None:
                status["estimatedRemainingSeconds"] = left
        status["metrics"] = [{"name": key, "value": value} for key, value in metrics.items()]
        return {"trainerStatus": status}

    def _seconds_left(self, max_steps: int) -> int | None:
        """By the pace of this attempt; what an earlier one trained took none of its time."""
        taken = self.step - self.first_step
        if taken <= 0 or not self.began:
            return None
        return int((self.latest - self.began) / taken * max(0, max_steps - self.step))


class KubeflowSink(HttpSink):
    """Kubeflow Trainer: progress, time left and the latest metrics of a TrainJob.

    Inside a TrainJob there is nothing to set. The percentage is 99 at most until the training has
    ended; a run that fails or is preempted leaves it where it was.
    """

    name: ClassVar[str] = "kubeflow"
    wants: ClassVar[tuple[type[Event], ...]] = (
        RunStarted,
        TrainBegan,
        EpochBegan,
        EpochEnded,
        MetricsLogged,
        Evaluated,
        CheckpointSaved,
        TrainEnded,
    )
    # As often as Transformers' callback; what is left at the end goes at once.
    limits: ClassVar[BatchLimits] = BatchLimits(events=5000, bytes=4 << 20, age=5.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once", resumed="rewrites", note="the controller holds the latest status alone"
    )
    help: ClassVar[str] = "Kubeflow sets them in the pods of a TrainJob (TrainJobRuntimeStatus)"

    class Settings(HttpSettings, env_prefix="KUBEFLOW_TRAINER_", populate_by_name=True):
        """Where the controller's status server is."""

        server_url: str = Field(pattern="^https?://", description="the address for status updates")
        server_token: Path = Field(
            description="the file with the service account's token; read again as it is renewed"
        )
        verify: bool | Path = Field(
            default=True,
            validation_alias="KUBEFLOW_TRAINER_SERVER_CA_CERT",
            description="whether to check certificates, or a file of authorities to trust",
        )

        @model_validator(mode="before")
        @classmethod
        def _wanted(cls, data: dict[str, object]) -> dict[str, object]:
            if os.environ.get("DISABLE_KUBEFLOW_INTEGRATION", "").upper() == "TRUE":
                raise SwitchedOffError("DISABLE_KUBEFLOW_INTEGRATION is TRUE")
            return data

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _token: SecretStr = SecretStr("")
    _read_at: float | None = None

    def headers(self) -> Mapping[str, str]:
        """The service account's token."""
        token = self._token.get_secret_value()
        return {"authorization": f"Bearer {token}"} if token else {}

    async def open(self, context: SinkContext, state: State) -> State:
        """Read the token, so that a wrong path is told of at once."""
        del context
        await self._renew()
        return state

    async def check(self) -> str:
        """Ask the server for the head of its first page, if there is a token to show later."""
        await self._renew()
        return await super().check()

    async def write(self, batch: Batch, state: State) -> State:
        """Tell what is known after a batch."""
        progress = _Progress.model_validate(dict(state))
        for event in batch.events:
            progress.learn(event)
        await self._tell(progress)
        return progress.model_dump()

    async def close(self, outcome: Outcome, state: State) -> State:
        """A loop of one's own is complete when its run has finished."""
        progress = _Progress.model_validate(dict(state))
        if outcome == "finished" and not progress.complete:
            progress.complete = True
            await self._tell(progress)
        return progress.model_dump()

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """A token that is refused may have been renewed meanwhile."""
        if response.status in (401, 403):
            self._read_at = None
        return super().classify(response, now=now)

    async def _tell(self, progress: _Progress) -> None:
        await self._renew()
        await self.http.post(self.settings.server_url, json=progress.status())

    async def _renew(self) -> None:
        """Read the token again if it is old.

        Raises:
            MisconfiguredError: There is none.
        """
        now = time.monotonic()
        if self._read_at is not None and now - self._read_at < _FRESH:
            return
        path = self.settings.server_token
        try:
            self._token = SecretStr((await in_thread(path.read_text, "utf-8")).strip())
        except (OSError, UnicodeDecodeError) as error:
            raise MisconfiguredError(
                f"no token: {path} cannot be read: {error}",
                fix="let KUBEFLOW_TRAINER_SERVER_TOKEN name the service account's token",
            ) from error
        self._read_at = now
