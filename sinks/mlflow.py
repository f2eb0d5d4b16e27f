"""Writes a run to an MLflow tracking server, over its REST interface and without its client."""

import getpass
import logging
from collections.abc import Mapping
from typing import ClassVar, Final

from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    Event,
    MisconfiguredError,
    Outcome,
    Promise,
    RejectedError,
    Response,
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
    UnavailableError,
)
from sinks import HttpSink
from sinks._authorization import basic, bearer, secret
from sinks._mlflow_answers import ParameterChangedError, classify, named
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_names import legal_key
from sinks._mlflow_plan import LogBatch, Plan, Step, Upload
from sinks._mlflow_server import TOKEN, MlflowServer, RemoteRun
from sinks._mlflow_settings import MlflowSettings, active_run_id
from sinks._mlflow_state import Memory, ledger
from sinks._mlflow_translation import WANTED, Ledger, Translation
from sinks._mlflow_values import OLD, Limits
from sinks._steps import take_steps, translate
from sinks._tracked import beyond, place_of
from sinks._values import milliseconds

__all__ = ["MlflowSettings", "MlflowSink"]

log: logging.Logger = logging.getLogger("sinks")

_STATUS: Final[dict[Outcome, str]] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "stopped": "FINISHED",
    "preempted": "KILLED",
}


class MlflowSink(HttpSink):
    """MLflow: metrics, parameters, tags and files of a run. Delivery: once, on SQL stores.

    A batch whose answer was lost is sent again as it was, and a server on a database recognises its
    points; one on files (`--backend-store-uri ./mlruns`) would show them twice. Steps that a
    resumed run trains again keep their first value.

    Names that a server refuses become the nearest legal ones, each its own. Parameters are cut at
    the server's limit; one that is logged with another value keeps the first, and the latest is the
    tag `changed_param.<name>`. What other ranks log is under `rank<n>/`. An evaluation's numbers
    are under `eval/`, unless they are named so already or were logged as metrics. Messages and
    alerts are tags with the latest text, alerts and texts also files; console lines and histograms,
    for which MLflow has no place, stay in the journal.

    Checkpoints and other files are uploaded as `log_artifacts` says, while the metrics behind them
    wait.
    """

    name: ClassVar[str] = "mlflow"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, bytes=1 << 20, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="keeps the first",
        note="on a server with a database; one that stores in files shows a repeated batch twice",
    )
    # A checkpoint may take this long; each request and each stretch of an upload has its own limit.
    write_timeout: ClassVar[float] = 3600.0
    help: ClassVar[str] = "start one with `mlflow server` and set MLFLOW_TRACKING_URI"

    Settings: ClassVar[type[SinkSettings]] = MlflowSettings

    _keeps_all: ClassVar[bool] = False
    """Whether every file waits for the run's end, not the last of its kind, where they wait."""

    _limits: Limits = OLD
    _experiment_id: str | None = None
    _run: RemoteRun | None = None
    _ledger: Ledger | None = None
    _artifacts: Artifacts | None = None

    @property
    def _options(self) -> MlflowSettings:
        assert isinstance(self.settings, MlflowSettings)
        return self.settings

    def bind(self, context: SinkContext) -> None:
        """Adopt the run that the `mlflow` package has active in this thread, as users expect."""
        super().bind(context)
        settings = self._options
        if settings.run_id is None and settings.parent_run_id is None:
            active = active_run_id()
            if active is not None and settings.nested_run:
                self.settings: SinkSettings = settings.model_copy(update={"parent_run_id": active})
            elif active is not None:
                # Whoever began it will end it.
                self.settings = settings.model_copy(update={"run_id": active, "end_run": False})

    def headers(self) -> Mapping[str, str]:
        """Basic authentication with a user, otherwise the token."""
        settings = self._options
        if settings.tracking_username:
            return basic(settings.tracking_username, secret(settings.tracking_password))
        return bearer(secret(settings.tracking_token))

    def origins(self) -> tuple[str, ...]:
        """The tracking server alone is shown the credentials."""
        return (self._options.tracking_uri,)

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed the server's words where they say more than its status."""
        return classify(response) or super().classify(response, now=now)

    async def check(self) -> str:
        """Ask for the server's version, and for the experiment or run as `open` does."""
        settings = self._options
        server = self._make_server()
        words = await server.greeting()
        if settings.run_id is not None:
            run = await server.run(settings.run_id)
            return f"{words}; the run {run.run_id} is {'there' if run.active else 'deleted'}"
        name = settings.experiment_name or "Default"
        stage = await server.stage(name)
        found = {
            "active": "is there",
            "deleted": "is deleted and will be restored",
            None: "will be made",
        }
        return f"{words}; the experiment {name!r} {found.get(stage, stage)}"

    async def open(self, context: SinkContext, state: State) -> State:
        """Find the experiment, or the run if there is one already."""
        self._context = context
        self._server = self._make_server()
        memory = Memory.model_validate(state)
        self._limits = await self._server.limits()
        run_id = self._known_run(memory)
        if run_id is None:
            name = self._options.experiment_name or context.project or "Default"
            self._experiment_id = await self._server.experiment(name)
        else:
            await self._go_on(await self._server.run(run_id), memory)
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch in as few requests as the server's limits allow."""
        memory = Memory.model_validate(state)
        if self._run is None:
            await self._begin(batch, memory)
        assert self._run is not None
        assert self._ledger is not None
        if memory.run_id != self._run.run_id:
            memory.run_id = self._run.run_id
            await batch.commit(0, memory.state())
        await self._resume(batch, memory)
        translation = await self._translated(batch, memory)
        await self._send(batch, memory, translation)
        if batch[-1].event.type == "run_ended":
            memory.last_files = {}
        return memory.state()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Say how the run ended, and upload what waited for a run that could not say so itself."""
        memory = Memory.model_validate(state)
        if self._run is None or self._artifacts is None:
            return state
        await self._tag(self._run, {"hotloop.outcome": outcome})
        if self._ends(memory):
            await self._server.update_run(self._run.run_id, _STATUS[outcome], memory.end_time)
        for target, source in list(memory.last_files.values()):
            await self._artifacts.store(Upload(0, target, source), skip=0, done=_ignored)
        memory.last_files = {}
        return memory.state()

    async def release(self) -> None:
        """Let go of what is being uploaded, and close the connections."""
        if self._artifacts is not None:
            self._artifacts.release()
        await super().release()

    async def _begin(self, batch: Batch, memory: Memory) -> None:
        """Make the run, unless an earlier try whose answer was lost has made it."""
        assert self._experiment_id is not None
        token = self._context.run_id
        run = await self._server.find_run(self._experiment_id, token)
        if run is None:
            name, user = self._options.run_name or self._context.name, self._owner()
            tags = {TOKEN: token, "mlflow.user": user, "mlflow.runName": name}
            if self._options.parent_run_id:
                tags["mlflow.parentRunId"] = self._options.parent_run_id
            start = milliseconds(batch[0].event.time)
            run = await self._server.create_run(self._experiment_id, name, start, user, tags)
        await self._go_on(run, memory)

    async def _go_on(self, run: RemoteRun, memory: Memory) -> None:
        """Write to this run from now on."""
        if not run.active:
            raise MisconfiguredError(
                f"the run {run.run_id} is deleted", fix="restore it in MLflow, or begin a new run"
            )
        if self._ends(memory):
            await self._server.update_run(run.run_id, "RUNNING")
        await self._tag(run, self._options.tags)
        self._ledger = ledger(memory, run.steps, run.params)
        self._artifacts = self._make_artifacts(run)
        self._run = run
        self.url: str | None = self._server.page(run)

    def _make_server(self) -> MlflowServer:
        """The server that is written to."""
        return MlflowServer(self.http, self._options.tracking_uri)

    def _make_artifacts(self, run: RemoteRun) -> Artifacts:
        """Where the run's files go."""
        base = self._options.tracking_uri
        return Artifacts(self.http, self._server, base, run.artifact_uri)

    def _owner(self) -> str:
        """Whose the run is there: as MLflow's own client has it who signs in, or who trains."""
        return self._options.tracking_username or _user()

    def _known_run(self, memory: Memory) -> str | None:
        """The run to go on with, if there is one."""
        return memory.run_id or self._options.run_id

    def _ends(self, memory: Memory) -> bool:
        """Whether it is ours to say that the run there goes on and how it ended."""
        return self._options.end_run and not memory.borrowed

    async def _resume(self, batch: Batch, memory: Memory) -> None:
        """Note which steps earlier attempts have delivered, once at the beginning of an attempt.

        Later the server's answer would contain this attempt's own points.
        """
        assert self._run is not None
        assert self._ledger is not None
        started = next((each for each in batch.events if isinstance(each, RunStarted)), None)
        if started is None or started.attempt <= memory.masked_for:
            return
        memory.masked_for = started.attempt
        memory.mask = {}
        if started.resumed_from_step is not None:
            memory.mask = beyond(started, (await self._server.run(self._run.run_id)).steps)
        self._ledger.mask = dict(memory.mask)
        await batch.commit(0, memory.state())

    async def _translated(self, batch: Batch, memory: Memory) -> Translation:
        assert self._ledger is not None
        translation = Translation(
            self._ledger,
            self._limits,
            flatten=self._options.flatten_params,
            most_params=self._options.max_log_params,
            log_artifacts=self._options.log_artifacts,
            keeps_all=self._keeps_all,
            last_files=memory.last_files,
        )
        await translate(batch, translation.add)
        if translation.left_out:
            log.warning(
                "%s: max_log_params=%s, so %d parameters are left out: %s",
                *(self.name, self._options.max_log_params, len(translation.left_out)),
                ", ".join(translation.left_out)[:500],
            )
        memory.end_time = max(memory.end_time or 0, milliseconds(batch[-1].event.time))
        memory.last_files = translation.last_files
        memory.checkpoint = self._ledger.checkpoint
        metrics, params = self._ledger.metrics.renamed, self._ledger.params.renamed
        if metrics != memory.metrics or params != memory.params:
            memory.metrics, memory.params = dict(metrics), dict(params)
            # Before they are used, or the next process might give them to others.
            await batch.commit(0, memory.state())
        return translation

    async def _send(self, batch: Batch, memory: Memory, translation: Translation) -> None:
        async def take(step: Step, committed: int) -> None:
            if isinstance(step, LogBatch):
                await self._log(step, committed)
            else:
                await self._store(batch, memory, step, committed)

        await take_steps(translation.plan.ended(), batch, take, lambda _: memory.state())

    async def _log(self, step: LogBatch, committed: int) -> None:
        assert self._run is not None
        assert self._ledger is not None
        try:
            await self._server.log(self._run.run_id, step)
        except ParameterChangedError as error:
            # Somebody else writes to this run too; with its parameters known, ours become tags.
            run = await self._server.run(self._run.run_id)
            self._ledger.values = dict(run.params)
            raise UnavailableError(f"parameters of the run have changed: {error}") from error
        except RejectedError as error:
            place = named(error)
            if place is None:
                raise
            index = step.origins[place[0]][place[1]] - committed
            raise RejectedError(str(error), guilty=(index,)) from error
        for item in step.params:
            self._ledger.values[str(item["key"])] = str(item["value"])

    async def _store(self, batch: Batch, memory: Memory, step: Upload, committed: int) -> None:
        """Upload, noting each file of a folder, so that a retry goes on behind it."""
        assert self._artifacts is not None
        record = batch[step.record]
        under_way = f"{place_of(record)}:{step.target}"
        if memory.uploading != under_way:
            memory.uploading, memory.uploaded = under_way, 0

        async def done(count: int) -> None:
            memory.uploaded = count
            await batch.commit(0, memory.state())

        try:
            await self._artifacts.store(step, skip=memory.uploaded, done=done)
        except RejectedError as error:
            raise RejectedError(str(error), guilty=(step.record - committed,)) from error
        memory.uploading, memory.uploaded = "", 0

    async def _tag(self, run: RemoteRun, tags: Mapping[str, str]) -> None:
        plan = Plan(self._limits)
        for key, value in tags.items():
            plan.tag(legal_key(key), value)
        for step in plan.ended():
            if isinstance(step, LogBatch):
                await self._server.log(run.run_id, step)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in many containers
        return "unknown"


async def _ignored(_count: int) -> None:
    """Closing remembers nothing between files."""
