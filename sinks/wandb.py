"""Writes a run to Weights & Biases over its HTTP interface, without its client."""

import logging
from pathlib import Path
from typing import ClassVar, Final

import anyio
from anyio import to_thread
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
from sinks._authorization import basic, secret
from sinks._steps import take_steps, translate
from sinks._wandb_answers import classify
from sinks._wandb_artifacts import Artifacts
from sinks._wandb_begin import Beginning
from sinks._wandb_media import Media, look
from sinks._wandb_models import final
from sinks._wandb_plan import Request, Step, StoreArtifact
from sinks._wandb_send import Sender
from sinks._wandb_server import WandbServer
from sinks._wandb_settings import WandbSettings
from sinks._wandb_state import Memory
from sinks._wandb_translation import WANTED, Translation
from sinks._wandb_values import configuration, decoded

__all__ = ["WandbSettings", "WandbSink"]

log: logging.Logger = logging.getLogger("sinks")

_EXIT_CODES: Final[dict[Outcome, int]] = {
    "finished": 0,
    "stopped": 0,
    "failed": 1,
    "preempted": 1,
}
"""A run that crashed has none: the server finds out by itself that it is silent."""


class WandbSink(HttpSink):
    """Weights & Biases: metrics, configuration, summary, console, files and models of a run.

    Delivery: once. The lines of a run have numbers, which are counted here: a request whose answer
    was lost is sent again as it was and rewrites the same lines. Steps that a resumed run trains
    again keep their first value.

    Each event with numbers is a row of its own, with the step as `train/global_step`, over which
    everything is shown, as Transformers' callback does it; no row is dropped for coming late.
    What other ranks log is under `rank<n>/`. An evaluation's numbers are under `eval/`, unless
    they are named so already or were logged as metrics. Messages are lines of the console.

    Checkpoints are uploaded as `log_model` says, whatever else `run.artifact` announces always;
    meanwhile the metrics behind them wait, and the run there is kept alive. Its stop button asks
    the training to stop. What this sink has to say of a run is in its configuration, under
    `hotloop`; the outcome, too.
    """

    name: ClassVar[str] = "wandb"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    # The service takes two requests a second for one run.
    limits: ClassVar[BatchLimits] = BatchLimits(
        events=5000, bytes=4 << 20, age=2.0, rates=((2, 1.0),)
    )
    promise: ClassVar[Promise] = Promise(delivery="once", resumed="keeps the first")
    # A checkpoint may take this long; each request and each stretch of an upload has its own limit.
    write_timeout: ClassVar[float] = 3600.0
    help: ClassVar[str] = "your key is on https://wandb.ai/authorize"

    Settings: ClassVar[type[SinkSettings]] = WandbSettings

    _sender: Sender | None = None
    _begun: anyio.Event

    @property
    def _options(self) -> WandbSettings:
        assert isinstance(self.settings, WandbSettings)
        return self.settings

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed the server's words where they say more than its status."""
        return classify(response) or super().classify(response, now=now)

    async def check(self) -> str:
        """Ask the server whose key it is."""
        return f"W&B answers; the key belongs to {await self._server().viewer()}"

    async def open(self, context: SinkContext, state: State) -> State:
        """Go on with a run that was under way; a new one begins with its first batch.

        Raises:
            MisconfiguredError: The mode is offline, and this is not `hotloop sync`.
        """
        if self._options.mode == "offline" and self._asks is not None:
            raise MisconfiguredError(
                "the mode is offline", fix="`hotloop sync --sink wandb` sends the run later"
            )
        self._context = context
        self._begun = anyio.Event()
        self._sender = None
        memory = Memory.model_validate(state)
        if memory.run_id is not None and memory.closed is None:
            await self._begin(memory, 0.0)
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch in as few requests as the server's limits allow."""
        memory = Memory.model_validate(state)
        if self._sender is None:
            first = batch[0].event
            started = next((each for each in batch.events if isinstance(each, RunStarted)), None)
            await self._begin(memory, first.time, started)
            await batch.commit(0, memory.state())
        assert self._sender is not None
        translation = Translation(memory, self._options, await _media(batch))
        await translate(batch, translation.add)
        await self._send(self._sender, batch, translation.plan.ended())
        return memory.state()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Say how the run ended, and upload what waited for a run that could not say so itself."""
        memory = Memory.model_validate(state)
        if self._sender is None:
            if memory.run_id is None or memory.closed == outcome:
                return state
            await self._begin(memory, 0.0)
        assert self._sender is not None
        if memory.last is not None:
            await _store_last(self._sender, StoreArtifact(final(memory.last), record=0))
            memory.last = None
        memory.about = {**memory.about, "outcome": outcome}
        config = configuration(decoded(memory.config), dict(memory.about), memory.defined)
        await self._sender.configure(config)
        if outcome in _EXIT_CODES:
            await self._sender.stream(_ending(outcome, memory.uploaded))
            memory.uploaded = []
        memory.closed = outcome
        return memory.state()

    async def watch(self) -> None:
        """Keep the run alive and hear its stop button, also while nothing is logged."""
        await self._begun.wait()
        assert self._sender is not None
        await self._sender.keep_alive()

    async def release(self) -> None:
        """Let go of what is being uploaded, and close the connections."""
        if self._sender is not None:
            self._sender.release()
        await super().release()

    def _server(self) -> WandbServer:
        settings = self._options
        headers = basic("api", secret(settings.api_key))
        if settings.username:
            headers["x-wandb-username"] = settings.username
        if settings.user_email:
            headers["x-wandb-user-email"] = settings.user_email
        return WandbServer(self.http, settings.base_url, headers)

    async def _begin(self, memory: Memory, time: float, started: RunStarted | None = None) -> None:
        server = self._server()
        beginning = Beginning(server, self._options, self._context, self.limits.events)
        place = await beginning.begin(memory, time, started)
        artifacts = Artifacts(self.http, server, place)
        self._sender = Sender(
            server, artifacts, place, stopped=self._stop, heartbeat=self._options.heartbeat
        )
        self.url: str | None = server.page(place)
        self._begun.set()

    def _stop(self) -> None:
        self.ask(Stop(reason="stopped on the run's page"))

    async def _send(self, sender: Sender, batch: Batch, steps: list[Step]) -> None:
        async def take(step: Step, committed: int) -> None:
            try:
                if isinstance(step, StoreArtifact) and batch[step.record].event.type == "run_ended":
                    await _store_last(sender, step)
                else:
                    await sender.send(step)
            except RejectedError as error:
                if isinstance(step, Request):
                    raise RejectedError(str(error), guilty=(step.record - committed,)) from error
                raise

        await take_steps(steps, batch, take, lambda step: step.state)


async def _store_last(sender: Sender, step: StoreArtifact) -> None:
    """Upload what the run ends with; if that cannot be, its end is told nevertheless."""
    try:
        await sender.send(step)
    except RejectedError as error:
        log.warning("the last checkpoint was not stored in W&B: %s", error)


async def _media(batch: Batch) -> dict[int, Media]:
    """What is known of the files of a batch's media, by record."""
    found: dict[int, Media] = {}
    for index, event in enumerate(batch.events):
        if isinstance(event, MediaLogged):
            path = Path(event.path)
            media = await to_thread.run_sync(look, path, event.media_type, abandon_on_cancel=True)
            if media is not None:
                found[index] = media
    return found


def _ending(outcome: Outcome, uploaded: list[str]) -> dict[str, JsonValue]:
    """The last request of a run."""
    body: dict[str, JsonValue] = {"complete": True, "exitcode": _EXIT_CODES[outcome]}
    if outcome == "preempted":
        body["preempting"] = True
    if uploaded:
        body["uploaded"] = [*uploaded]
    return body
