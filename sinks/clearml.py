"""Writes a run to a ClearML server, over its HTTP interface and without its client."""

from collections.abc import Mapping
from typing import ClassVar

import anyio

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
)
from sinks import HttpSink
from sinks._clearml_answers import classify
from sinks._clearml_plan import Upload
from sinks._clearml_server import ClearmlServer, RemoteTask
from sinks._clearml_settings import ClearmlSettings, LogModel, current_task_id
from sinks._clearml_state import Memory
from sinks._clearml_task import OpenTask
from sinks._clearml_translation import WANTED, Translation
from sinks._steps import take_steps, translate

__all__ = ["ClearmlSettings", "ClearmlSink"]


class ClearmlSink(HttpSink):
    """ClearML: scalars, parameters, log, plots, models and files of a task. Delivery: once.

    A point's identity is its series and iteration, so a batch that is sent again and steps that a
    resumed run trains again replace what is there; only lines of the log may be there twice.

    A metric `a/b` is the line `b` of the chart `a`; `eval_` and `test_` name charts as in
    Transformers' callback, and anything else is in `train`. The summary of a training and the epoch
    are single values. ClearML stores no NaN and no infinity (its own client writes 0.0): such a
    point is left out, counted in the chart `not finite`, and said in the log. Points without a step
    are counted. What other ranks log is under `rank<n>/`.

    Parameters are in the section `General`, nested ones as `outer/inner`; a later value replaces
    the one before. Checkpoints become output models, folders as one archive, as `log_model` says,
    while the metrics behind them wait.

    A task that was given, by `task_id` or by the `clearml` package, is gone on with.
    """

    name: ClassVar[str] = "clearml"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, bytes=1 << 20, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="lines of the log that a repeated batch brings may be there twice",
    )
    # A checkpoint may take this long; each request and each stretch of an upload has its own limit.
    write_timeout: ClassVar[float] = 3600.0
    help: ClassVar[str] = "make a key at https://app.clear.ml/settings/workspace-configuration"

    Settings: ClassVar[type[SinkSettings]] = ClearmlSettings

    # ClearML's own client looks every two seconds.
    looks_every: ClassVar[float] = 5.0

    _server: ClearmlServer | None = None
    _task: OpenTask | None = None

    @property
    def _options(self) -> ClearmlSettings:
        assert isinstance(self.settings, ClearmlSettings)
        return self.settings

    @property
    def _log_model(self) -> LogModel:
        """As upstream: files of a task that was there before are its owner's business."""
        default: LogModel = "checkpoints" if self._options.task_id is None else "never"
        return self._options.log_model or default

    def bind(self, context: SinkContext) -> None:
        """Adopt the task that the `clearml` package has in this process, as users expect."""
        super().bind(context)
        if self._options.task_id is None and (current := current_task_id()) is not None:
            # Whoever began it will end it.
            update = {"task_id": current, "end_task": False}
            self.settings: SinkSettings = self._options.model_copy(update=update)

    def headers(self) -> Mapping[str, str]:
        """The token, once the server has given one."""
        return {} if self._server is None else self._server.headers()

    def origins(self) -> tuple[str, ...]:
        """The API server and the file server alone are shown the credentials."""
        files = self._options.files
        return (self._options.api_host, *([files] if files.startswith("http") else []))

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed the server's own codes where they say more than its status."""
        return classify(response) or super().classify(response, now=now)

    async def check(self) -> str:
        """Log in, and ask for the task or the project as `open` does."""
        self._server = ClearmlServer(self.http, self._options)
        if self._options.task_id is not None:
            task = await self._server.task(self._options.task_id)
            return f"ClearML answers; the task {task.task_id} is {task.status}"
        name = self._options.project
        await self._server.login()
        if name is None:
            return "ClearML answers"
        found = await self._server.find_project(name)
        return f"ClearML answers; the project {name!r} {'is there' if found else 'will be made'}"

    async def open(self, context: SinkContext, state: State) -> State:
        """Log in, and find the task if there is one already."""
        if self._options.offline_mode:
            raise MisconfiguredError(
                "CLEARML_OFFLINE_MODE keeps everything here", fix="`hotloop sync` without it sends"
            )
        self._context = context
        self._server = ClearmlServer(self.http, self._options)
        memory = Memory.model_validate(state)
        task_id = memory.task_id or self._options.task_id
        if task_id is not None:
            task = await self._server.task(task_id)
            self._task = self._opened(task, await self._server.project_name(task.project_id))
        else:
            await self._server.login()
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch in as few requests as the server's limits allow."""
        memory = Memory.model_validate(state)
        if self._task is None:
            self._task = await self._begun()
        if memory.task_id != self._task.task_id:
            memory.task_id = self._task.task_id
            await batch.commit(0, memory.state())
        if batch.attempt > memory.attempt:
            # Only then: within an attempt somebody may have stopped it.
            await self._task.begin()
            memory.attempt, memory.ended = batch.attempt, False
            await batch.commit(0, memory.state())
        self._task.begun = not memory.ended
        await self._send(self._task, batch, memory)
        if batch[-1].event.type == "run_ended":
            await self._store_last(self._task, memory)
        return memory.state()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Upload what waited for a run that could not end by itself, and say how it ended."""
        memory = Memory.model_validate(state)
        if self._task is None:
            return state
        await self._store_last(self._task, memory)
        if self._options.end_task:
            reasons = {"finished": "completed", "stopped": memory.reason or "stopped"}
            reason = reasons.get(outcome, memory.error or outcome)
            await self._task.end(outcome, reason=reason, message=memory.error)
            memory.ended = True
        return memory.state()

    async def watch(self) -> None:
        """Tell that the task is alive, and ask for a stop when somebody ends it in ClearML."""
        while True:
            await anyio.sleep(self.looks_every)
            if self._task is not None and self._task.begun:
                await self._task.watch.tend()

    async def release(self) -> None:
        """Let go of what is being uploaded, and close the connections."""
        if self._task is not None:
            self._task.release()
        await super().release()

    def _project(self) -> str:
        return self._options.project or self._context.project or "hotloop"

    async def _begun(self) -> OpenTask:
        """Make the task, unless an earlier try whose answer was lost has made it."""
        assert self._server is not None
        project = self._project()
        project_id = await self._server.project(project)
        mark = f"hotloop run {self._context.run_id}"
        task = await self._server.find_task(project_id, mark)
        if task is None:
            name = self._options.task or self._context.name
            task = await self._server.create_task(project_id, name, mark)
        return self._opened(task, project)

    def _opened(self, task: RemoteTask, project: str) -> OpenTask:
        assert self._server is not None
        if task.status == "published":
            raise MisconfiguredError(
                f"the task {task.task_id} is published, so nothing can be added",
                fix="begin a new run, or name another task",
            )
        self.url: str | None = self._server.page(task)
        return OpenTask(
            self.http,
            self._server,
            task,
            project=project,
            host=self._options.files,
            packing=self._context.run_dir / ".clearml-upload.zip",
            keep=self._options.keep_models,
            ask=self.ask,
            ours=self._options.end_task,
        )

    async def _send(self, task: OpenTask, batch: Batch, memory: Memory) -> None:
        translation = Translation(memory, task_id=task.task_id, log_model=self._log_model)
        await translate(batch, translation.add)
        translation.end()
        await take_steps(
            translation.plan.ended(),
            batch,
            lambda step, _: task.take(step, memory),
            lambda step: memory.model_copy(update={"counts": step.counts}).state(),
        )

    async def _store_last(self, task: OpenTask, memory: Memory) -> None:
        for mark, (kind, name, source, step) in list(memory.last_files.items()):
            await task.store(Upload(kind, name, source, step), memory)
            del memory.last_files[mark]
