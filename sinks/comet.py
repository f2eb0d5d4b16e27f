"""Writes a run to Comet, over the interface of its own client and without that client."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import anyio

from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    Event,
    HeldBackError,
    MisconfiguredError,
    Outcome,
    Promise,
    Record,
    Response,
    SinkContext,
    SinkSettings,
    State,
    Stop,
)
from sinks import HttpSink
from sinks._comet_answers import KEYS, ExistsError, classify
from sinks._comet_assets import Assets
from sinks._comet_plan import Stretch, length
from sinks._comet_remote import RemoteExperiment
from sinks._comet_rest import RestServer
from sinks._comet_send import Pauses, Progress, Sender
from sinks._comet_server import CometServer
from sinks._comet_settings import CometSettings
from sinks._comet_state import Memory
from sinks._comet_translation import WANTED, Latest, Translation
from sinks._comet_uploads import waiting
from sinks._comet_values import shortened
from sinks._steps import translate
from sinks._tracked import place_of

__all__ = ["CometSettings", "CometSink"]

log: logging.Logger = logging.getLogger("sinks")


class CometSink(HttpSink):
    """Comet: metrics, parameters, tags, console lines and files of an experiment.

    Delivery: at least once. Comet appends metrics and knows no repetition: a batch whose answer was
    lost is there twice, with the same steps and times. Everything else replaces itself. Steps that
    a resumed run trains again keep their first value.

    The experiment's key is made from the run's, so that a process which goes on, or a call whose
    answer was lost, finds the same experiment. Nested parameters become `outer|inner`. Names longer
    than 100 characters are cut and keep a mark of their own. What other ranks log is under
    `rank<n>/`, numbers about the machine under `sys.`. An evaluation's numbers are under `eval/`,
    unless they are named so already or were logged as metrics. Messages are console lines; alerts
    are an "other" and a text. Histograms, for which this sink has no form, stay in the journal.

    Checkpoints and other files are uploaded as `log_assets` says, while the metrics behind them
    wait. With `rest` only Comet's documented interface is used, which is slower and knows less.
    """

    name: ClassVar[str] = "comet"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, bytes=1 << 20, age=2.0)
    promise: ClassVar[Promise] = Promise(
        delivery="at least once",
        resumed="keeps the first",
        note="metrics of a batch whose answer was lost are there twice, all else once",
    )
    # A checkpoint may take this long; each request and each stretch of an upload has its own limit.
    write_timeout: ClassVar[float] = 3600.0
    help: ClassVar[str] = f"get a key at {KEYS} and set COMET_API_KEY"

    Settings: ClassVar[type[SinkSettings]] = CometSettings

    _experiment: RemoteExperiment | None = None
    _assets: Assets | None = None
    _latest: Latest = {}  # noqa: RUF012 - replaced, never changed
    _pauses: Pauses
    _interval: float = 10.0
    _asked: bool = False
    _throttled: bool = False
    _caught_up: bool = False

    @property
    def _options(self) -> CometSettings:
        assert isinstance(self.settings, CometSettings)
        return self.settings

    def headers(self) -> Mapping[str, str]:
        """The key as it is, and the header that a proxy wants."""
        settings = self._options
        headers = {"authorization": settings.api_key.get_secret_value()}
        if settings.allow_header_name and settings.allow_header_value:
            headers[settings.allow_header_name] = settings.allow_header_value.get_secret_value()
        return headers

    def origins(self) -> tuple[str, ...]:
        """Comet alone is shown the key."""
        return (self._options.root,)

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed Comet's own codes where they say more than the status."""
        return classify(response, now=now) or super().classify(response, now=now)

    async def check(self) -> str:
        """Ask for the server's version and the account's workspaces."""
        server = self._reached()
        version = await server.version()
        return f"Comet {version} answers; workspaces: {await server.account()}"

    async def open(self, context: SinkContext, state: State) -> State:
        """Make the experiment, or find it if there is one already."""
        settings = self._options
        self._context = context
        self._server = self._reached()
        memory = Memory.model_validate(state)
        goes_on = memory.experiment_key is not None
        key = memory.experiment_key or settings.experiment_key or _key_of(context.run_id)
        experiment = await self._begin(key, goes_on=goes_on)
        self._interval = (await self._server.beat(experiment, alive=True)).interval
        if goes_on:
            # Comet's own client leaves the mark of an earlier crash.
            await self._server.update_status(experiment.key, alive=True)
        memory.experiment_key = experiment.key
        if memory.offset is None and experiment.offset:
            memory.offset = experiment.offset
        self._experiment = experiment
        self._assets = Assets(self.http, self._server, experiment)
        self._pauses = Pauses()
        self.url: str | None = experiment.page
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch, acknowledging each request's worth of points by itself."""
        assert self._experiment is not None
        assert self._assets is not None
        memory = Memory.model_validate(state)
        memory.enter(f"{batch.attempt}.{batch.rank}")
        progress = Progress(batch, memory)
        sender = Sender(
            self._server,
            self._assets,
            self._experiment,
            self._context.name,
            pauses=self._pauses,
            progress=progress,
        )
        # A copy, so that another try of these records means the same.
        latest = self._latest.copy()
        records = list(batch)
        while records:
            count = length(records, memory.ahead.values())
            stretch = await self._translated(records[:count], memory, latest)
            await sender.send(stretch, memory)
            del records[:count]
            if not sender.held:
                self._latest = latest.copy()
                if records:
                    await progress.acknowledge(memory, count)
        if sender.held:
            self._throttled = True
            first = min(sender.held.values(), key=lambda error: error.retry_after or 0.0)
            raise HeldBackError(str(first), retry_after=first.retry_after) from first
        self._caught_up = self._throttled
        memory.partly, memory.ahead = {}, {}
        return memory.state()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Say how the run ended, and upload what waited for a run that could not say so itself."""
        memory = Memory.model_validate(state)
        experiment = self._experiment
        if experiment is None or self._assets is None:
            return state
        for upload in waiting(memory):
            await self._assets.store(upload, memory, _forget)
        memory.waiting = {}
        key = experiment.key
        await self._all_there()
        await self._server.other(key, "hotloop.outcome", outcome)
        crashed = outcome in ("failed", "crashed")
        error = shortened(memory.error or f"the run {outcome}") if crashed else None
        await self._server.update_status(key, alive=False, crashed=crashed, error=error)
        await self._server.beat(experiment, alive=False)
        for reason, count in memory.left_out.items():
            log.warning("not sent to Comet: %d x %s", count, reason)
        return memory.state()

    async def watch(self) -> None:
        """Tell Comet that the run lives as often as it wants, and heed its stop button."""
        while self._experiment is not None:
            await anyio.sleep(self._interval)
            beat = await self._server.beat(self._experiment, alive=True)
            self._interval = beat.interval
            await self._all_there()
            if beat.calls:
                await self._heed(self._experiment.key)

    async def release(self) -> None:
        """Let go of what is being uploaded, and close the connections."""
        if self._assets is not None:
            self._assets.release()
        await super().release()

    async def _heed(self, key: str) -> None:
        """Ask the training to stop if somebody pressed the button, and say so as Comet does."""
        who = await self._server.stopped_by(key)
        if who is not None:
            self.ask(Stop(reason=f"stopped by {who} on Comet"))
            await self._server.other(key, "experiment_stopped_by_user", value=True)

    def _reached(self) -> CometServer:
        settings = self._options
        if settings.offline:
            raise MisconfiguredError(
                "COMET_START_ONLINE or COMET_MODE says offline: nothing is sent",
                fix="unset it for `hotloop sync`, which delivers the journal",
            )
        key = settings.api_key.get_secret_value()
        kind = RestServer if settings.rest else CometServer
        return kind(self.http, settings.root, settings.clientlib, key)

    async def _begin(self, key: str, *, goes_on: bool) -> RemoteExperiment:
        settings = self._options
        named = settings.experiment_key is not None
        if (
            settings.mode == "get"
            or (goes_on and settings.mode == "create")
            or (settings.rest and (goes_on or named))
        ):
            return await self._server.get_run(key)
        project = settings.project_name or self._context.project
        existing = settings.mode == "get_or_create"
        asked, self._asked = self._asked, True
        try:
            return await self._server.add_run(key, project, settings.workspace, existing=existing)
        except ExistsError as error:
            # A key made from our run's is nobody else's; another may be ours if we asked before.
            if not named or asked:
                return await self._server.get_run(key)
            raise MisconfiguredError(
                f"COMET_MODE is create, but there is an experiment {key}: {error}",
                fix="choose another COMET_EXPERIMENT_KEY, or the mode get_or_create",
            ) from error

    async def _translated(
        self, records: Sequence[Record], memory: Memory, latest: Latest
    ) -> Stretch:
        """What a few records mean; the memory holds them afterwards."""
        stretch = Stretch(place_of(records[0]), records[-1].seq)
        translation = Translation(stretch, memory, latest, self._options, self._context.name)
        await translate(records, translation.add)
        if records[-1].event.type == "run_ended":
            memory.waiting = {}
        return stretch

    async def _all_there(self) -> None:
        """Take away Comet's warning of missing data once all of it has come."""
        if self._caught_up and self._experiment is not None:
            await self._server.mark_not_throttled(self._experiment.key)
            self._caught_up = self._throttled = False


def _key_of(run_id: str) -> str:
    """The experiment's key for a run, the same in each process."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


async def _forget(_place: str, _done: int) -> None:
    """Closing remembers nothing between files."""
