"""`Run`: what a training loop of one's own needs of the bus, with tensors understood."""

import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, get_args

from bus import (
    JOURNAL_FOLDER,
    Account,
    Bus,
    BusOptions,
    Decision,
    Deliver,
    Durability,
    Event,
    OnFull,
    Outcome,
    RunEnded,
    Statistics,
    deferred_interrupt,
    forget,
    plain_mapping,
    track,
)
from runtime._compile import run_as_written
from runtime._destinations import choose_sinks
from runtime._device import Snapshots
from runtime._ending import Ending, conclude, report_account
from runtime._identity import Identity, Resume, identify, record_end
from runtime._preemption import closing_budget
from runtime._run_plan import RunPlan
from runtime._run_subscribers import Subscribed
from runtime._run_watchdog import FLOOR

if TYPE_CHECKING:
    from bus import ReportTo, Sink, SinkContext

log = logging.getLogger("runtime")


class Run(Subscribed):
    """One training run: its events, its journal, and the decisions about it.

    Use it as a context manager, or call `close`; an open run is closed at exit. Methods that
    publish may be called from any thread and do not raise after construction.

    Args:
        name: Its name and its folder's, `<dir>/<name>`; a second run of a name becomes `name-2`.
        project: What it belongs to, for destinations that group runs.
        dir: The folder of runs.
        config: Settings to remember; values under keys that look like secrets are masked.
        sinks: Where to deliver it: names, `bus.Sink` objects, or "all" for every one that is ready.
        resume: "auto" goes on with the newest run of this name if there is one; a path goes on
            with that run; None makes a new one, unless torchrun or SLURM restarted the job.
        from_step: When resuming, the step of the checkpoint: what earlier attempts did beyond it
            is superseded.
        strict: Whether a value that cannot be logged raises `LoggingError` instead of being dropped
            and named once.
        durability: "interval" writes behind the training thread's back every `flush_interval`
            seconds; "write" lets `log` itself write, so that nothing of the host's is lost even to
            SIGKILL.
        flush_interval: Seconds an event may wait in memory.
        fsync: Seconds between syncs to disk, against power loss; None leaves it to the system.
        on_full: What a full queue does: "drop_oldest" counts a gap, "block" waits for the writer.
        quota_bytes: Journal size beyond which the oldest files are unlinked; None for never.
        deliver: Where sinks are served: on the bus's loop thread ("thread"), or in processes of
            their own ("process"), which keeps their work off this process's interpreter lock.
        close_timeout: Seconds that closing may take altogether.
        options: All settings of the bus at once, instead of the seven before.
        snapshots: Ways to read tensors of unusual devices, by device type.
        watchdog: Seconds without a safe point that are no stall, however fast steps are; 0 for no
            watchdog. It reports and never acts: see `bus.StallDetected`.

    Raises:
        TypeError: `config` is no mapping.
        ValueError: An argument is out of range.
        RunNotFoundError: `resume` names a folder that holds no run.
        UnknownSinkError: No sink has a name of `sinks`.
        MissingPackageError: A sink that was named needs packages.
        NotConfiguredError: A sink that was named lacks settings.
    """

    _begins_at_once: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "run",
        *,
        project: str | None = None,
        dir: str | os.PathLike[str] = "runs",  # noqa: A002 - the field's word
        config: Mapping[str, object] | None = None,
        sinks: "ReportTo" = None,
        resume: Resume = None,
        from_step: int | None = None,
        strict: bool = False,
        durability: Durability = "interval",
        flush_interval: float = 0.05,
        fsync: float | None = None,
        on_full: OnFull = "drop_oldest",
        quota_bytes: int | None = None,
        deliver: Deliver = "thread",
        close_timeout: float = 30.0,
        options: BusOptions | None = None,
        snapshots: Mapping[str, Snapshots] | None = None,
        watchdog: float = FLOOR,
    ) -> None:
        if from_step is not None and from_step < 0:
            raise ValueError(f"from_step={from_step} must be a step, 0 or more")
        if close_timeout < 0:
            raise ValueError(f"close_timeout={close_timeout} must be seconds, 0 or more")
        settings = plain_mapping(dict(config or {}))
        chosen = choose_sinks(sinks)
        options = options or BusOptions(
            durability=durability,
            flush_interval=flush_interval,
            fsync=fsync,
            on_full=on_full,
            quota_bytes=quota_bytes,
            deliver=deliver,
        )
        self._plan = RunPlan(name, project, Path(dir), settings, chosen)
        self._known: Identity | None = None
        self._close_timeout = close_timeout
        self._ending: Ending | None = None
        self._closing = threading.Lock()
        self._forked = False
        self._settling = False
        self._warned_closed = False
        bus = Bus(None, options=options, held=True)
        super().__init__(bus, snapshots=snapshots, strict=strict, watchdog=watchdog)
        self._open = True
        if self._begins_at_once:
            self._begin(resume, from_step)

    def _begin(self, resume: Resume, from_step: int | None) -> Identity:
        """Find or make the folder and the journal, and say that the run has started."""
        plan, ranks = self._plan, self._ranks

        def find() -> Identity:
            return identify(
                name=plan.name,
                project=plan.project,
                parent=plan.parent,
                resume=resume,
                from_step=from_step,
            )

        self._known = known = find() if ranks is None else ranks.share(find)
        track(self)
        self._bus.begin(known.folder / JOURNAL_FOLDER, rank=self.rank, attempt=known.attempt)
        self._bus.publish(known.started(plan.config, from_step))
        self.start_logging()
        for sink in plan.sinks:
            self.add_sink(sink)
        self.start_watching()
        return known

    @property
    def _identity(self) -> Identity:
        """Which run and attempt this is; asking begins a run that has not begun."""
        return self._known or self._begin(None, None)

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self._identity.info.name

    @property
    def id(self) -> str:
        """Its identity across attempts and machines."""
        return self._identity.info.id

    @property
    def dir(self) -> Path:
        """Its folder."""
        return self._identity.folder

    @property
    def attempt(self) -> int:
        """Which turn at the run this process is; 1 for a new run."""
        return self._identity.attempt

    @property
    def close_timeout(self) -> float:
        """Seconds that closing may take altogether."""
        return self._close_timeout

    @property
    def resumed(self) -> bool:
        """Whether it goes on with an earlier attempt's work."""
        return self._identity.previous is not None

    @property
    def _sink_context(self) -> "SinkContext":
        from bus import SinkContext  # noqa: PLC0415 - only runs with sinks need it

        return SinkContext(
            run_dir=self.dir,
            run_id=self.id,
            name=self.name,
            project=self._identity.info.project,
        )

    def __repr__(self) -> str:
        state = self._ending.outcome if self._ending else "open"
        return f"<Run {self.name!r} attempt {self.attempt} in {self.dir} ({state})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close(error=error)
        except BaseException as late:  # as a signal's handler raises before closing has begun
            self.close(error=error or late)
            raise

    @run_as_written
    def publish(self, event: Event) -> None:
        """Publish an event, ours or one of your own; waits for its deciders if it has any.

        Raises:
            TypeError: Only if the run is strict: it is no event.
        """
        if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            self.refuse("publish", TypeError(f"{type(event).__qualname__} is no event"))
            return
        if not self.refuses_more():
            self._bus.publish(event)

    @run_as_written
    def wants(self, kind: type[Event]) -> bool:
        """Whether publishing an event of this class reaches anybody; ask before building it."""
        return self._open and self._bus.wants(kind)

    @property
    def closed(self) -> bool:
        """Whether it has ended, for this process at least."""
        return not self._open

    @run_as_written
    def safe_point(self, step: int) -> Decision:
        """Read the decisions; call it between two steps, when stopping or saving is possible.

        Costs one look at an empty queue unless something was asked. A `stop` stays true.
        """
        decision = self._bus.control.safe_point(step)
        if decision.requests:
            self.heed(decision)
        return decision

    @run_as_written
    def statistics(self) -> Statistics:
        """What the run's machinery has done so far."""
        return self._bus.statistics()

    @run_as_written
    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything published so far is written; tell whether that happened in time."""
        return self._bus.flush(timeout)

    def add_sink(self, sink: "str | Sink") -> None:
        """Deliver the run to one more destination, from its beginning.

        Rank 0 delivers, and the first rank of each machine whose disk rank 0 does not see if the
        sink wants all ranks; on other ranks this checks the sink and does nothing more.

        Args:
            sink: Its name, with settings from the environment, or a `bus.Sink`.

        Raises:
            UnknownSinkError: There is no sink of this name.
            MissingPackageError: It needs packages that are not installed.
            NotConfiguredError: It lacks settings.
            ValueError: The run delivers to a sink of this name already.
            ClosedError: The run has ended.
        """
        (made,) = choose_sinks(sink)
        if self._identity.keeps and (not self.rank or made.ranks == "all"):
            self._bus.add_sink(made, self._sink_context)

    def close(
        self,
        outcome: Outcome | None = None,
        *,
        error: BaseException | None = None,
        timeout: float | None = None,
    ) -> Account | None:
        """Write everything, let subscribers finish, and end the run; once is enough.

        Args:
            outcome: How it ended; by default what can be seen: failed with `error`, stopped if a
                `Stop` took effect, otherwise finished.
            error: The exception that ended it.
            timeout: Seconds for everything together; `close_timeout` by default. A preemption's
                deadline may leave less.

        Returns:
            How closing went, or None if it was closed already.

        Raises:
            ValueError: There is no such outcome; the run stays open.
            KeyboardInterrupt: Ctrl-C came meanwhile, which ends the waiting for destinations; the
                run is closed.
        """
        if outcome not in (None, *get_args(Outcome)):
            raise ValueError(f"outcome={outcome!r} must be one of {', '.join(get_args(Outcome))}")
        seconds = self._close_timeout if timeout is None else timeout
        with self.last_signals(), deferred_interrupt(self._bus.hurry):
            return self._close(outcome, error, closing_budget(self.control.preemption, seconds))

    def _close(
        self, outcome: Outcome | None, error: BaseException | None, seconds: float
    ) -> Account | None:
        if self._open:
            self.end_watching(error)
            self.end_monitoring()  # while its last reading can still be published
            self.end_guarding()  # likewise, for what a device has yet to say
        with self._closing:
            if self._ending is not None or not self._open:
                return None
            self._ending = self._agreed(conclude(outcome, error, self.control), seconds)
            self._open = False
            self.stop_logging()
            self._settling = True
        ending = self._ending

        def last_event() -> RunEnded:
            self._settling = False
            return ending.event(self._bus.statistics().as_metrics())

        try:
            account = self._bus.close(seconds, last=last_event)
        finally:
            self.end_console()
        forget(self)
        if self._identity.keeps:
            record_end(self._identity, ending)
        report_account(self.dir, account, self._bus.statistics())
        return account

    def close_at_exit(self) -> None:
        """The interpreter ends while the run is open: close it with what can be known."""
        error: object = getattr(sys, "last_value", None)
        interactive = hasattr(sys, "ps1") or "IPython" in sys.modules
        failed = error if isinstance(error, BaseException) and not interactive else None
        try:
            self.close(error=failed)
        except KeyboardInterrupt:
            return
        except Exception:  # the other runs of this process are still to be closed
            log.exception("the run %s could not be closed", self.dir)

    def forked(self) -> None:
        """This is a forked child, such as a DataLoader worker: the run belongs to the parent."""
        self._open = False
        self.stop_logging()
        self._forked = True
        self._closing = threading.Lock()  # another thread may have held it at the fork
        self._bus.abandon()

    def refuses_more(self) -> bool:
        """Whether what this thread publishes is lost; counts it then, and warns the first time."""
        # A subscriber still publishes while it reads its backlog in a run that closes.
        if self._open or (self._settling and self._bus.is_live_thread):
            return False
        if not self._warned_closed:
            self._warned_closed = True
            state = "in a forked child" if self._forked else "closed"
            with deferred_interrupt():  # it could leave the log's lock taken
                log.warning("run %r is %s; what is logged now is lost", self.name, state)
        self._bus.note_late()
        return True
