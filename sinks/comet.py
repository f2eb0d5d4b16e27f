"""Writes a run to Comet, over the interface of its own client and without that client."""

import hashlib
import logging
from collections.abc import Mapping
from typing import ClassVar

import anyio
from anyio.lowlevel import checkpoint

from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    Event,
    MisconfiguredError,
    Outcome,
    Promise,
    Response,
    SinkContext,
    SinkSettings,
    State,
    Stop,
)
from sinks import HttpSink
from sinks._comet_answers import KEYS, ExistsError, ThrottledError, classify
from sinks._comet_assets import Assets
from sinks._comet_plan import Group, Step, Upload
from sinks._comet_server import CometServer, RemoteExperiment
from sinks._comet_settings import CometSettings
from sinks._comet_state import Memory
from sinks._comet_translation import WANTED, Latest, Translation, waiting

__all__ = ["CometSettings", "CometSink"]

log: logging.Logger = logging.getLogger("sinks")

_SLICE = 50
"""Records that are translated before others on the loop have their turn."""


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
    wait.
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
    _interval: float = 10.0
    _asked: bool = False
    _throttled: bool = False

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
        if settings.offline:
            raise MisconfiguredError(
                "COMET_START_ONLINE or COMET_MODE says offline: nothing is sent",
                fix="unset it for `hotloop sync`, which delivers the journal",
            )
        self._context = context
        self._server = self._reached()
        self._latest: Latest = {}
        memory = Memory.model_validate(state)
        goes_on = memory.experiment_key is not None
        key = memory.experiment_key or settings.experiment_key or _key_of(context.run_id)
        experiment = await self._begin(key, goes_on=goes_on)
        self._interval = (await self._server.beat(experiment, alive=True)).interval
        if goes_on:
            # Comet's own client leaves the mark of an earlier crash.
            await self._server.update_status(key, alive=True)
        memory.experiment_key = key
        if memory.offset is None and experiment.offset:
            memory.offset = experiment.offset
        self._experiment = experiment
        self._assets = Assets(self.http, self._server, experiment)
        self.url: str | None = experiment.page
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch in as few requests as Comet's limits allow."""
        memory = Memory.model_validate(state)
        translation = Translation(memory, self._latest, self._options, self._context.name)
        for index, record in enumerate(batch):
            if index % _SLICE == _SLICE - 1:
                await checkpoint()
            translation.add(record)
        try:
            await self._send(batch, memory, translation.plan.ended())
        except ThrottledError:
            self._throttled = True
            raise
        if batch[-1].event.type == "run_ended":
            memory.waiting = {}
        await self._recover()
        return memory.state()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Say how the run ended, and upload what waited for a run that could not say so itself."""
        memory = Memory.model_validate(state)
        experiment = self._experiment
        if experiment is None or self._assets is None:
            return state
        for upload in waiting(memory):
            await self._assets.store(upload, skip=0, done=_ignored, left_out=memory.leave_out)
        memory.waiting = {}
        key = experiment.key
        await self._server.other(key, "hotloop.outcome", outcome)
        crashed = outcome in ("failed", "crashed")
        error = (memory.error or f"the run {outcome}") if crashed else None
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
        key = settings.api_key.get_secret_value()
        return CometServer(self.http, settings.root, settings.clientlib, key)

    async def _begin(self, key: str, *, goes_on: bool) -> RemoteExperiment:
        settings = self._options
        if settings.mode == "get" or (settings.mode == "create" and goes_on):
            return await self._server.get_run(key)
        project = settings.project_name or self._context.project
        existing = settings.mode == "get_or_create"
        asked, self._asked = self._asked, True
        try:
            return await self._server.add_run(key, project, settings.workspace, existing=existing)
        except ExistsError as error:
            # A key made from our run's is nobody else's; another may be ours if we asked before.
            if settings.experiment_key is None or asked:
                return await self._server.get_run(key)
            raise MisconfiguredError(
                f"COMET_MODE is create, but there is an experiment {key}: {error}",
                fix="choose another COMET_EXPERIMENT_KEY, or the mode get_or_create",
            ) from error

    async def _send(self, batch: Batch, memory: Memory, steps: list[Step]) -> None:
        committed = 0
        for step in steps:
            if isinstance(step, Group):
                await self._send_group(step)
                _note(memory, step)
            else:
                await self._store(batch, memory, step)
            if step.done > committed and step is not steps[-1]:
                await batch.commit(step.done - committed, memory.state())
                committed = step.done

    async def _send_group(self, group: Group) -> None:
        """What Comet replaces first, what it appends last."""
        assert self._experiment is not None
        server, key = self._server, self._experiment.key
        for name, value in group.others.items():
            await server.other(key, name, value)
        if group.tags:
            await server.tags(key, group.tags)
        if group.params:
            await server.parameters(key, list(group.params.values()))
        if group.lines:
            await server.output(key, group.lines)
        for title, text in group.notes:
            await server.notify(self._experiment, self._context.name, title, text)
        if group.points:
            await server.metrics(key, group.points)

    async def _store(self, batch: Batch, memory: Memory, step: Upload) -> None:
        """Upload, noting each file of a folder, so that a retry goes on behind it."""
        assert self._assets is not None
        if memory.uploading != step.place:
            memory.uploading, memory.uploaded = step.place, 0

        async def done(count: int) -> None:
            memory.uploaded = count
            await batch.commit(0, memory.state())

        await self._assets.store(step, skip=memory.uploaded, done=done, left_out=memory.leave_out)
        memory.uploading, memory.uploaded = "", 0

    async def _recover(self) -> None:
        """Take away Comet's warning of missing data when the data is there."""
        if self._throttled and self._experiment is not None:
            self._throttled = False
            await self._server.mark_not_throttled(self._experiment.key)


def _key_of(run_id: str) -> str:
    """The experiment's key for a run, the same in each process."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def _note(memory: Memory, group: Group) -> None:
    """Remember up to which step each metric of a group has been delivered."""
    for point in group.points:
        name, step = point["metricName"], point["step"]
        if isinstance(name, str) and isinstance(step, int):
            memory.steps[name] = max(step, memory.steps.get(name, step))


async def _ignored(_count: int) -> None:
    """Closing remembers nothing between files."""
