"""Writes a run to SwanLab with its own library: online, to files for later, or for its dashboard.

The library is loaded and driven in a thread of its own, where it takes no signals; its hooks,
output and global run are kept from the program (`sinks._swanlab_apart`).
"""

from typing import ClassVar

from bus import (
    Batch,
    BatchLimits,
    BlockingSink,
    Event,
    MetricsLogged,
    Outcome,
    ParametersLogged,
    Promise,
    RunEnded,
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
    SystemMetricsLogged,
)
from sinks._files import check_folder
from sinks._scalars import NUMBERS, ScalarReader
from sinks._swanlab_run import SwanLabRun, known_library
from sinks._swanlab_settings import SwanLabSettings, project_name
from sinks._swanlab_state import Known, renamed

__all__ = ["SwanLabSink"]

_PROBES = ("hardware", "runtime", "requirements", "git", "swanlab", "monitor")


class SwanLabSink(BlockingSink):
    """SwanLab: metrics with their steps, settings and the outcome of a run.

    A batch is acknowledged when SwanLab's library has it in its files, and online when the server
    has it. The first value of a metric at a step counts; a later one is left out by the library.
    """

    name: ClassVar[str] = "swanlab"
    wants: ClassVar[tuple[type[Event], ...]] = (*NUMBERS, ParametersLogged, RunEnded)
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="at least once",
        resumed="keeps the first",
        note="online, what comes again is known by its metric and step; offline and locally each "
        "process writes an experiment of its own",
    )
    help: ClassVar[str] = "https://docs.swanlab.cn"

    Settings: ClassVar[type[SinkSettings]] = SwanLabSettings

    settings: SwanLabSettings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _run: SwanLabRun | None = None

    def bind(self, context: SinkContext) -> None:
        """Take a relative path as the program means it, which may change its folder later."""
        self._context = context
        self._folder = self.settings.log_dir.absolute()
        self._reader = ScalarReader(self.settings.rewrite, renamed)

    def check_blocking(self) -> str:
        """Whether the library is whole, and its folder can be written; asks no server."""
        known_library()
        return check_folder(self._folder)

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Hand over a batch, and wait until it is written."""
        known = Known.model_validate(dict(state))
        run = self._begun(known)
        for event in batch.events:
            self._log(event, known, run)
        run.settle(len(batch))
        return known.model_dump()

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """Tell the outcome; offline and locally, only of an experiment of this process."""
        known = Known.model_validate(dict(state))
        if known.closed == outcome or (self._run is None and self.settings.mode != "online"):
            return state
        run, self._run = self._begun(known), None
        run.finish(outcome, known.error)
        known.closed = outcome
        return known.model_dump()

    def release_blocking(self) -> None:
        """Leave a run that was not closed to the next process."""
        if self._run is not None:
            self._run.abandon()
            self._run = None

    def _begun(self, known: Known) -> SwanLabRun:
        """The run, which begins with what is to be written, so that none stays empty."""
        if self._run is None:
            self._run = self._begin()
            self._run.configure(known.config)
            self.url: str | None = self._run.place
        return self._run

    def _begin(self) -> SwanLabRun:
        told, never = self.settings, self.settings.resume == "never"
        settings: dict[str, object] = {"api_host": told.api_host}
        if told.api_key is not None:
            settings["api_key"] = told.api_key.get_secret_value()
        if told.web_host is not None:
            settings["web_host"] = told.web_host
        if not self.is_live:
            # It would describe the machine and the process that deliver, not those that train.
            settings["probe"] = dict.fromkeys(_PROBES, False)
        options: dict[str, object] = {
            "project": told.project or project_name(self._context.project),
            "workspace": told.workspace,
            "experiment_name": told.exp_name or self._context.name,
            "id": None if never else told.run_id or self._context.run_id,
            "resume": told.resume,
        }
        return SwanLabRun(told.mode, self._folder, settings=settings, options=options)

    def _log(self, event: Event, known: Known, run: SwanLabRun) -> None:
        known.pass_by(event)
        if isinstance(event, (RunStarted, ParametersLogged)):
            new = event.config if isinstance(event, RunStarted) else event.parameters
            known.config |= new
            run.configure(new)
        if isinstance(event, RunStarted):
            known.closed = known.error = None
        elif isinstance(event, RunEnded):
            known.error = event.error or event.reason
        elif isinstance(event, SystemMetricsLogged):
            # Many fall on one step, of which SwanLab would keep the first alone.
            run.log(self._reader.numbers(event, trainer=known.trainer), known.measured)
            known.measured += 1
        elif numbers := self._reader.numbers(event, trainer=known.trainer):
            if isinstance(event, MetricsLogged) and self._renames(known):
                numbers = {**numbers, "train/global_step": known.step}
            run.log(numbers, known.step)

    def _renames(self, known: Known) -> bool:
        rewrite = self.settings.rewrite
        return known.trainer if rewrite is None else rewrite
