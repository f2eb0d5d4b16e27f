"""The contract of a destination: what it is told, what it promises, what it may rely on.

A sink is made in the training thread (`__init__`, `bind`); everything else happens on the loop
thread, one call at a time: `open`, then `write` for one batch after another, then `close`; or, when
a person asks whether it would work, `check` alone. What `write` raises is understood as
`bus._failures` says; waiting, retrying with the same batch, taking a poisoned one apart, and
remembering what has been delivered are not its business.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, overload

from pydantic import JsonValue, ValidationError

from bus._event import Event
from bus._events import Outcome
from bus._failures import DeliveryError, Response, classify
from bus._options import Ranks
from bus._reader import Record
from bus._requests import Request
from bus._sink_settings import SinkSettings, not_configured
from bus._worker import Worker

State: TypeAlias = Mapping[str, JsonValue]
"""What a sink remembers between batches, processes and attempts, as JSON; {} at first."""

Coalesces: TypeAlias = Mapping[type[Event], tuple[str, ...]]
"""Events of which the latest is enough, and the fields that two of the same must share."""

Result = TypeVar("Result")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How records are put together; a batch is sent when the first limit is reached.

    Attributes:
        events: Records in one batch.
        bytes: Their size in the journal together; one record alone may be larger.
        age: Seconds that the first of them may wait for more.
        rates: Batches per seconds, each of them a limit of its own, such as ((1, 0.5), (100, 60)).
    """

    events: int = 1000
    bytes: int = 1 << 20
    age: float = 1.0
    rates: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.events < 1 or self.bytes < 1 or self.age < 0:
            raise ValueError(f"{self} must allow at least one event and one byte")
        if any(count < 1 or seconds <= 0 for count, seconds in self.rates):
            raise ValueError(f"rates={self.rates} must be pairs of (batches, seconds) above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a sink promises, as data that documentation and `hotloop sinks` show.

    Attributes:
        delivery: "once": the destination recognises a batch that is sent again. "at least once":
            after a crash in the middle of a batch that batch may be there twice.
        resumed: What happens to steps that are trained again: the destination "rewrites" them,
            "keeps the first" value, or "shows both".
        note: Conditions of it, in a sentence.
    """

    delivery: Literal["once", "at least once"] = "at least once"
    resumed: Literal["rewrites", "keeps the first", "shows both"] = "shows both"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """The run that a sink serves.

    Attributes:
        run_dir: Its folder.
        run_id: Its identity across attempts, machines and renamed folders.
        name: What the user calls it.
        project: What it belongs to, if anything.
    """

    run_dir: Path
    run_id: str
    name: str
    project: str | None = None


Commit: TypeAlias = Callable[[int, State], Awaitable[None]]


class Batch(Sequence[Record]):
    """Records of one attempt and rank in order of appending; the unit that is acknowledged.

    Attributes:
        attempt: The attempt they are of.
        rank: The rank they are of.
        failures: How often this very batch, with the same boundaries, has failed before.
    """

    def __init__(self, records: Sequence[Record], commit: Commit, *, failures: int = 0) -> None:
        self.attempt: int = records[0].attempt
        self.rank: int = records[0].rank
        self.failures: int = failures
        self._records = tuple(records)
        self._commit = commit

    @property
    def events(self) -> list[Event]:
        """The records' events."""
        return [record.event for record in self._records]

    async def commit(self, count: int, state: State) -> None:
        """Acknowledge the first `count` records: they are never sent again.

        For a sink that needs several requests for one batch. What comes after a failure is a batch
        of the records that are left.
        """
        await self._commit(count, state)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return self._records[index]

    def __repr__(self) -> str:
        first, last = self._records[0], self._records[-1]
        return f"<Batch of {len(self)}: attempt {self.attempt}, {first.seq} to {last.seq}>"


class Sink(ABC):
    """One destination of a run's events.

    Subclass it, give it a `name`, the events that it `wants`, `Settings`, and a `write`.

    Attributes:
        name: What it is called in `report_to`, `hotloop sync --sink` and file names.
        wants: Event classes it is given, subclasses included.
        limits: How records are put together into batches.
        coalesces: Events of which, while they wait to be sent, only the latest counts, each with
            the fields that make two of them the same: `{AlertRaised: ("title",)}`. The earlier
            ones are left out and counted. Declare what loses nothing; points of metrics cannot be.
        ranks: Whose events it is given in a job of many ranks: rank 0's, or those of "all". A
            batch is of one rank, `batch.rank`.
        promise: What its users may rely on.
        instead_of: Names of more general sinks that write to the same place; "all" leaves them out
            where this one is ready.
        portable: Whether it can be built from its settings in another process; not if `bind`
            captures something live.
        write_timeout: Seconds after which one `write` counts as not answered.
        settings: An instance of its `Settings`.
        url: Where a person can look at the run, once it is known.
    """

    name: ClassVar[str]
    wants: ClassVar[tuple[type[Event], ...]] = (Event,)
    limits: ClassVar[BatchLimits] = BatchLimits()
    coalesces: ClassVar[Coalesces] = {}
    ranks: ClassVar[Ranks] = "zero"
    promise: ClassVar[Promise] = Promise()
    instead_of: ClassVar[tuple[str, ...]] = ()
    portable: ClassVar[bool] = True
    write_timeout: ClassVar[float] = 300.0
    help: ClassVar[str] = ""
    """Where to get an account or a key; shown when settings are missing."""

    Settings: ClassVar[type[SinkSettings]] = SinkSettings
    """Overridden by a class of the sink's own; this one has no settings."""

    settings: SinkSettings
    url: str | None = None
    _asks: Callable[[Request], object] | None = None
    _tells: Callable[[Event], object] | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Check the name, which becomes a file's, and what is coalesced.

        Raises:
            TypeError: One of them cannot be.
        """
        super().__init_subclass__(**kwargs)
        name = getattr(cls, "name", None)
        if name is not None and not _NAME.fullmatch(name):
            raise TypeError(
                f"{cls.__qualname__}.name={name!r} must be lower-case letters, digits, '-' or '_'"
            )
        for kind, fields in cls.coalesces.items():
            if "metrics" in kind.model_fields:
                raise TypeError(
                    f"{cls.__qualname__}.coalesces has {kind.__name__}: each point of a metric "
                    "counts; leave it out"
                )
            if unknown := [each for each in fields if each not in kind.model_fields]:
                raise TypeError(
                    f"{cls.__qualname__}.coalesces: {kind.__name__} has no {', '.join(unknown)}; "
                    "name fields that two of the same share"
                )

    def __init__(self, settings: SinkSettings | None = None, /, **fields: Any) -> None:  # noqa: ANN401 - each sink's own settings
        """Take settings, or their fields; what is not given comes from the environment.

        Raises:
            NotConfiguredError: Settings are missing or wrong.
        """
        if settings is None:
            try:
                settings = self.Settings(**fields)
            except ValidationError as error:
                raise not_configured(self.name, self.Settings, error, self.help) from None
        elif fields or not isinstance(settings, self.Settings):
            raise TypeError(f"{type(self).__name__} takes its own Settings, or fields of them")
        self.settings = settings

    def bind(self, context: SinkContext) -> None:  # noqa: B027 - most need nothing
        """Capture what only the training thread knows; called there once, before anything else.

        Must neither wait nor talk to anybody.
        """

    async def open(self, context: SinkContext, state: State) -> State:
        """Get ready to write; `state` is what was committed last, {} for the first time.

        Called again after it failed and in each process that goes on.
        """
        del context
        return state

    async def check(self) -> str:
        """Try the way to the destination and leave nothing there; say in a few words what answered.

        Called after `bind`, instead of `open`; `release` follows. The run is one that there never
        was, so its folder need not exist.

        Raises:
            DeliveryError: As `write` would.
        """
        return "nothing to check"

    @abstractmethod
    async def write(self, batch: Batch, state: State) -> State:
        """Deliver a batch; when this returns, its records are acknowledged with the new state.

        Raises:
            UnavailableError: The same batch comes again later.
            RejectedError: The guilty records become dead letters, or halves of the batch come.
            MisconfiguredError: Nothing is sent until it may work again.
        """

    async def close(self, outcome: Outcome, state: State) -> State:
        """Everything has been delivered and the run ended like this; may be called once more."""
        del outcome
        return state

    async def watch(self) -> None:  # noqa: B027 - most have nothing to watch
        """Look after the destination beside the writes: heartbeats, and its own stop button.

        Runs from the end of `open` until everything is delivered, while the run it serves is
        under way, and is cancelled then; not by `hotloop sync`. Returning ends it. An exception
        begins it again after a pause, and never disturbs the writes.
        """

    def ask(self, request: Request) -> None:
        """Ask something of the training, such as `Stop(reason="stopped on the web page")`.

        Never waits. It takes effect at the run's next safe point, from whatever process this is;
        nobody hears it where no training is under way.
        """
        if self._asks is None:
            return
        if not request.by:
            request = request.model_copy(update={"by": self.name})
        self._asks(request)

    def ask_through(self, asks: Callable[[Request], object]) -> None:
        """Called by the delivery, before `open`: where the sink's requests go."""
        self._asks = asks

    @property
    def is_live(self) -> bool:
        """Whether it serves a training that is under way in this very process."""
        return self._tells is not None

    def tell(self, event: Event) -> None:
        """Publish an event of the training's, such as numbers that the sink has measured.

        Never waits; callable from any thread. Nobody hears it unless the sink `is_live`, which a
        sink that needs it ensures by `portable = False`; nor when the run has ended.
        """
        if self._tells is not None:
            self._tells(event)

    def tell_through(self, tells: Callable[[Event], object]) -> None:
        """Called by the delivery, before `open`: where the sink's events go."""
        self._tells = tells

    async def release(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of connections and files; always the last call, whatever happened before."""

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """What a server's answer means; None when it is good. For services that disagree."""
        return classify(response, now=now)


class BlockingSink(Sink):
    """A sink on a library that blocks: its calls run in one thread of its own, one at a time.

    A call that does not return is abandoned after `write_timeout`; until it does return, nothing
    else is called, and delivery waits as for a server that is down.
    """

    _worker: Worker | None = None

    @abstractmethod
    def write_blocking(self, batch: Batch, state: State) -> State:
        """As `write`, in the sink's own thread."""

    def check_blocking(self) -> str:
        """As `check`, in the sink's own thread."""
        return "nothing to check"

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """As `open`, in the sink's own thread."""
        del context
        return state

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """As `close`, in the sink's own thread."""
        del outcome
        return state

    def release_blocking(self) -> None:
        """As `release`, in the sink's own thread."""

    async def check(self) -> str:
        """Call `check_blocking` in the sink's thread."""
        return await self._call(self.check_blocking)

    async def open(self, context: SinkContext, state: State) -> State:
        """Call `open_blocking` in the sink's thread."""
        return await self._call(self.open_blocking, context, state)

    async def write(self, batch: Batch, state: State) -> State:
        """Call `write_blocking` in the sink's thread."""
        return await self._call(self.write_blocking, batch, state)

    async def close(self, outcome: Outcome, state: State) -> State:
        """Call `close_blocking` in the sink's thread."""
        return await self._call(self.close_blocking, outcome, state)

    async def release(self) -> None:
        """Call `release_blocking` in the sink's thread and end it; not before an abandoned call."""
        if self._worker is None:
            return
        if self._worker.is_busy:
            self._worker.end(self.release_blocking)
            return
        await self._call(self.release_blocking)
        self._worker.end()

    async def _call(self, function: Callable[..., Result], *arguments: object) -> Result:
        if self._worker is None:
            self._worker = Worker(f"hotloop-sink-{self.name}")
        return await self._worker.call(function, *arguments)
