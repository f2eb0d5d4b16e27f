"""Writes a run to a Neptune 2.x or Minfx server, over its JSON interface and without its client."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import PurePath
from typing import ClassVar, Final, TypeAlias

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
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
    Stop,
    UnavailableError,
)
from sinks import HttpSettings, HttpSink
from sinks._neptune_answers import Refusal, classify
from sinks._neptune_files import Files, image
from sinks._neptune_ledger import Ledger
from sinks._neptune_plan import Picture, Step, Upload, entries
from sinks._neptune_server import NeptuneServer, Project, RemoteRun
from sinks._neptune_settings import NeptuneSettings
from sinks._neptune_state import Memory
from sinks._neptune_translation import WANTED, Translation
from sinks._neptune_values import Operation
from sinks._steps import take_steps, translate
from sinks._tracked import place_of

__all__ = ["NeptuneSettings", "NeptuneSink"]

log: logging.Logger = logging.getLogger("sinks")

Listen: TypeAlias = Callable[
    [HttpSettings, str, Mapping[str, str], Callable[[str], None]], Awaitable[None]
]

_FAILED: Final = frozenset({"failed", "crashed"})
_STOPS: Final = frozenset({"neptune/stop", "neptune/abort"})
_REFUSED: Final = "refused by the server"
_NOT_STORED: Final = "a file that is gone, or that the server refused"
_FURTHER: Final = "the series on the server was further already"


class NeptuneSink(HttpSink):
    """Neptune 2.x and Minfx: metrics, parameters, texts and files of a run. Delivery: once.

    Neptune's hosted service ended on 5 March 2026. This sink has never talked to a server of
    theirs: it is checked against recordings of Neptune's own client and of Minfx's. Use it with an
    installation of one's own (2.x), or with Minfx (`dialect="minfx"`).

    A series takes growing steps only. A batch whose answer was lost is sent again as it was, and
    the server leaves out the points that it has; steps that a resumed run trains again keep their
    first value. A point that comes at a step its series is past cannot be stored: it is counted,
    with its reason, in the sink's state (`dropped`). NaN and infinities, for which Neptune has
    no numbers, are texts in the series `<metric>_nonfinite`; Minfx takes them as they are.

    Names are those of Transformers' callback: `finetuning/train/loss`, `finetuning/eval/loss`,
    `finetuning/trainer_parameters/...`; `train/epoch` is a value and no series. What other ranks
    log is under `finetuning/rank<n>/`. Texts longer than a series takes are divided. Images are
    series too, other media files. Histograms stay in the journal.

    The stop button of the web page asks the training to stop, if the extra `neptune` is installed.
    """

    name: ClassVar[str] = "neptune"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, bytes=1 << 20, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="keeps the first",
        note="as Neptune's documents have it; no server was there to try it on",
    )
    # A checkpoint may take this long; each request and each stretch of an upload has its own limit.
    write_timeout: ClassVar[float] = 3600.0
    beat: ClassVar[float] = 10.0
    """Seconds between signs of life, as many as with Neptune's own client."""
    help: ClassVar[str] = (
        "the hosted service has ended; of a server of yours the token is in the menu of your user"
    )

    Settings: ClassVar[type[SinkSettings]] = NeptuneSettings

    _project: Project | None = None
    _run: RemoteRun | None = None
    _files: Files | None = None
    _listener: Listen | None = None

    @property
    def _options(self) -> NeptuneSettings:
        assert isinstance(self.settings, NeptuneSettings)
        return self.settings

    def bind(self, context: SinkContext) -> None:
        """Load what the stop button needs here, and not on the loop."""
        super().bind(context)
        self._listener = _listener()

    def origins(self) -> tuple[str, ...]:
        """The server that the token names."""
        return (self._options.address.api,)

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed the server's words where they say more than its status."""
        return classify(response) or super().classify(response, now=now)

    async def check(self) -> str:
        """Exchange the token and look for the project."""
        project = await self._reached().project()
        return f"the server lets us in; the project {project.workspace}/{project.name} is there"

    async def open(self, context: SinkContext, state: State) -> State:
        """Make the run, or find it if there is one already."""
        settings = self._options
        self._server = self._reached()
        self._latest: dict[str, tuple[int | None, float]] = {}
        self._warned: set[str] = set()
        memory = Memory.model_validate(state)
        project = await self._server.project()
        if memory.run_id is not None:
            run = await self._server.run(memory.run_id)
        elif settings.with_id is not None:
            run = await self._server.run(f"{settings.project}/{settings.with_id}")
        else:
            run = await self._server.create(project, settings.custom_run_id or context.run_id)
        if run.trashed:
            raise MisconfiguredError(
                f"the run {run.short_id} is in the trash", fix="restore it, or begin a new run"
            )
        memory.run_id, memory.short_id = run.id, run.short_id
        self._project, self._run = project, run
        self._files = Files(self._server, run.id)
        self.url: str | None = self._server.page(project, run)
        return memory.state()

    async def write(self, batch: Batch, state: State) -> State:
        """Send a batch in a few requests."""
        memory = Memory.model_validate(state)
        started = next((each for each in batch.events if isinstance(each, RunStarted)), None)
        if started is not None:
            memory.resume(started)
        translation = Translation(Ledger.of(memory, self._latest), self._options)
        await translate(batch, translation.add)
        await take_steps(
            translation.plan.ended(),
            batch,
            lambda step, _: self._do(step, batch, memory),
            lambda _: memory.state(),
        )
        return memory.state()

    async def watch(self) -> None:
        """Send signs of life, and listen to the stop button."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            group.start_soon(self._listen)

    async def close(self, outcome: Outcome, state: State) -> State:
        """Say how the run ended."""
        if self._run is None:
            return state
        memory = Memory.model_validate(state)
        operations: list[Operation] = [
            {"path": "sys/failed", "assignBool": {"value": outcome in _FAILED}},
            {"path": "hotloop/outcome", "assignString": {"value": outcome}},
        ]
        if self._options.dialect == "minfx":
            operations.append({"path": "sys/state", "assignString": {"value": "idle"}})
        await self._operate(operations, memory, first=True)
        for reason, count in memory.dropped.items():
            log.warning("neptune: %d values were not stored: %s", count, reason)
        return memory.state()

    async def release(self) -> None:
        """Let go of what is being uploaded, and close the connections."""
        if self._files is not None:
            self._files.release()
        await super().release()

    def _reached(self) -> NeptuneServer:
        if self._options.mode == "offline":
            raise MisconfiguredError(
                "NEPTUNE_MODE is offline, so the run is in its journal only",
                fix="unset it and call `hotloop sync`",
            )
        return NeptuneServer(self.http, self._options)

    async def _do(self, step: Step, batch: Batch, memory: Memory) -> None:
        if isinstance(step, Upload):
            await self._store(step, batch, memory)
        elif isinstance(step, Picture):
            await self._show(step, batch, memory)
        else:
            if step.operations:
                await self._operate(step.operations, memory, first=batch.failures == 0)
            step.marks.remember(memory)

    async def _operate(self, operations: list[Operation], memory: Memory, *, first: bool) -> None:
        assert self._run is not None
        assert self._project is not None
        for refusal in await self._server.operate(self._run.id, self._project, operations):
            self._refused(refusal, memory, first=first)

    def _refused(self, refusal: Refusal, memory: Memory, *, first: bool) -> None:
        """Count what was not stored; points of a batch that comes again are there already."""
        shared = self._options.with_id is not None or self._options.custom_run_id is not None
        if refusal.stored and not (first and shared):
            return
        memory.drop(_FURTHER if refusal.stored else _REFUSED)
        if not refusal.stored and refusal.words not in self._warned:
            self._warned.add(refusal.words)
            log.warning("neptune refused a value: %s", refusal.words)

    async def _store(self, step: Upload, batch: Batch, memory: Memory) -> None:
        """Upload, noting each file of a folder, so that a retry goes on behind those stored."""
        assert self._files is not None
        record = batch[step.record]
        under_way = f"{place_of(record)}:{step.attribute}"
        if memory.uploading != under_way:
            memory.uploading, memory.uploaded = under_way, 0

        async def done(count: int, *, stored: bool) -> None:
            memory.uploaded = count
            if not stored:
                memory.drop(_NOT_STORED)
            await batch.commit(0, memory.state())

        await self._files.store(step, skip=memory.uploaded, done=done)

    async def _show(self, step: Picture, batch: Batch, memory: Memory) -> None:
        content = await image(step.source)
        if content is None:
            memory.drop(_NOT_STORED)
            return
        shown: Operation = {
            "data": content,
            "name": PurePath(step.source).name,
            "description": step.caption,
        }
        operation: Operation = {
            "path": step.series,
            "logImages": entries(shown, step.step, step.time),
        }
        await self._operate([operation], memory, first=batch.failures == 0)

    async def _beat(self) -> None:
        assert self._run is not None
        while True:
            try:
                await self._server.ping(self._run.id)
            except DeliveryError as error:
                log.debug("neptune did not take a sign of life: %s", error)
                await anyio.sleep(_wished(error))
            await anyio.sleep(self.beat)

    async def _listen(self) -> None:
        """Listen to the stop button, again and again; nobody presses it twice."""
        assert self._run is not None
        assert self._project is not None
        if self._listener is None:
            log.info("Neptune's stop button is not heard without `pip install hotloop[neptune]`")
            return
        while True:
            try:
                url, headers = await self._server.signals(self._project, self._run.id)
                await self._listener(self._options, url, headers, self._heard)
            except DeliveryError as error:
                log.debug("neptune's stop button cannot be heard: %s", error)
                await anyio.sleep(_wished(error))
            await anyio.sleep(self.beat)

    def _heard(self, kind: str) -> None:
        if kind in _STOPS:
            self.ask(Stop(reason=f"{kind.removeprefix('neptune/')} was asked for in Neptune"))


def _wished(error: DeliveryError) -> float:
    """Seconds for which the server wants to be left alone."""
    return (error.retry_after or 0.0) if isinstance(error, UnavailableError) else 0.0


def _listener() -> Listen | None:
    """What listens to the stop button; None without the extra."""
    try:
        from sinks._neptune_signal import listen  # noqa: PLC0415 - its library may be missing
    except ImportError:
        return None
    return listen
