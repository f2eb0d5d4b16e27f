"""What a sink has delivered of a run, in `cursors/<sink>.json`, and who may deliver to it.

The file is replaced atomically. One process delivers at a time: it holds a lock beside the file
where the file system has locks, and its owner's token in it everywhere. Whoever takes over writes
a higher generation, and the one before finds that out before it commits again.
"""

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, ValidationError

from bus._errors import BusError
from bus._events import Outcome, SinkStatus
from bus._rundir import AttemptInfo
from bus._sink_account import SinkAccount

CURSOR_FOLDER: Final = "cursors"


class CursorModel(BaseModel):
    """Part of a cursor; unknown fields of later versions are left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


class Position(CursorModel):
    """How far one attempt's journal of one rank has been delivered.

    Attributes:
        delivered: The last `seq` that was delivered, or that the sink does not want.
        parts: Boundaries of what is under way behind it, as pairs of first and last `seq`, so that
            whatever is sent again is sent in the same pieces.
    """

    delivered: NonNegativeInt = 0
    parts: list[tuple[int, int]] = Field(default_factory=list[tuple[int, int]])


class Owner(CursorModel):
    """The process that delivers.

    Attributes:
        generation: Grows with each owner.
    """

    pid: int
    host: str
    boot: str = ""
    process_started: int | None = None
    generation: int = 0

    @classmethod
    def here(cls, generation: int) -> "Owner":
        """This process."""
        me = AttemptInfo.here(0, None)
        return cls(
            pid=me.pid,
            host=me.host,
            boot=me.boot,
            process_started=me.process_started,
            generation=generation,
        )

    def lives(self) -> bool | None:
        """Whether it still runs; None when that cannot be told from this machine."""
        return AttemptInfo(
            number=0,
            started=0.0,
            pid=self.pid,
            host=self.host,
            boot=self.boot,
            process_started=self.process_started,
        ).lives()


class Health(CursorModel):
    """How a sink does.

    Attributes:
        status: What it is at.
        reason: Why, in the destination's words where there are any.
        since: Unix seconds.
        url: Where a person can look at the run.
    """

    status: SinkStatus = "opening"
    reason: str = ""
    since: float = 0.0
    url: str | None = None

    def moved_to(self, status: SinkStatus, reason: str, url: str | None) -> "Health":
        """How it does now; `since` is when it came to this status and address."""
        same = (status, url) == (self.status, self.url)
        since = self.since if same else time.time()
        return Health(status=status, reason=reason, since=since, url=url)


class Counts(CursorModel):
    """What became of the records that a sink wanted, over all attempts.

    Attributes:
        delivered: Acknowledged.
        dead: Refused for good; they are in `dead/<sink>.jsonl`.
        superseded: Replaced by a later attempt before they were sent.
        coalesced: Left out because a later one of their kind tells the same; `Sink.coalesces`.
        missing: Removed from the journal by its quota before they were sent.
        failures: Times that something went wrong.
    """

    delivered: NonNegativeInt = 0
    dead: NonNegativeInt = 0
    superseded: NonNegativeInt = 0
    coalesced: NonNegativeInt = 0
    missing: NonNegativeInt = 0
    failures: NonNegativeInt = 0


class Cursor(CursorModel):
    """Everything that is remembered of one sink.

    Attributes:
        positions: By attempt and rank, as in "a1-rank0".
        state: The sink's own.
        closed: The outcome it was closed with, once everything was delivered.
    """

    v: int = 1
    sink: str
    owner: Owner | None = None
    positions: dict[str, Position] = Field(default_factory=dict[str, Position])
    state: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    counts: Counts = Field(default_factory=Counts)
    health: Health = Field(default_factory=Health)
    closed: Outcome | None = None

    def position(self, attempt: int, rank: int) -> Position:
        """How far an attempt's journal of a rank has been delivered; a new one if not at all."""
        return self.positions.setdefault(f"a{attempt}-rank{rank}", Position())

    def account(
        self, *, pending: int | None, complete: bool, waiting_since: float | None = None
    ) -> SinkAccount:
        """What it says of the sink, for people.

        Args:
            pending: Records that wait; None if they were not counted.
            complete: Whether everything was delivered and the sink closed.
            waiting_since: When the oldest record of the batch under way was made, if one is.
        """
        return SinkAccount(
            name=self.sink,
            status=self.health.status,
            reason=self.health.reason,
            url=self.health.url,
            delivered=self.counts.delivered,
            pending=pending,
            dead=self.counts.dead,
            superseded=self.counts.superseded,
            coalesced=self.counts.coalesced,
            missing=self.counts.missing,
            complete=complete,
            waiting_since=waiting_since,
        )


class LostOwnershipError(BusError):
    """Another process delivers to this sink now."""


class StillOwnedError(BusError):
    """Another process that lives delivers to this sink.

    Attributes:
        owner: Who.
    """

    def __init__(self, sink: str, owner: Owner | None) -> None:
        who = f"process {owner.pid} on {owner.host}" if owner is not None else "another process"
        super().__init__(f"{who} delivers to {sink!r}; wait until it is done, or take over")
        self.owner = owner


def list_cursors(run_dir: Path) -> dict[str, Cursor]:
    """The readable cursors of a run by sink."""
    found: dict[str, Cursor] = {}
    with contextlib.suppress(OSError):
        for path in sorted((run_dir / CURSOR_FOLDER).glob("*.json")):
            with contextlib.suppress(OSError, ValidationError):
                found[path.stem] = Cursor.model_validate_json(path.read_bytes())
    return found


class CursorFile:
    """The cursor of one sink in a run's folder, and this process's right to move it.

    Everything here touches the disk; call it where waiting for one hurts nobody.
    """

    def __init__(self, run_dir: Path, sink: str) -> None:
        self.path = run_dir / CURSOR_FOLDER / f"{sink}.json"
        self._sink = sink
        self._lock: IO[bytes] | None = None
        self._generation = 0

    def load(self) -> Cursor:
        """Read it; a new one if there is none, or none that can be read."""
        try:
            return Cursor.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Cursor(sink=self._sink)
        except ValidationError:
            # Sending twice is better than nothing at all; the file is kept for whoever asks.
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(f".damaged-{int(time.time())}"))
            return Cursor(sink=self._sink)

    def acquire(self, take_over: bool = False) -> Cursor:
        """Become the one that delivers.

        Args:
            take_over: Even if another process does and lives.

        Raises:
            StillOwnedError: Another process does.
            OSError: The disk refused.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        locked = self._try_lock()
        cursor = self.load()
        owner = cursor.owner
        if not take_over:
            if locked is False:
                raise StillOwnedError(self._sink, owner)
            if locked is None and owner is not None and not _is_me(owner) and owner.lives():
                raise StillOwnedError(self._sink, owner)
        self._generation = (owner.generation if owner is not None else 0) + 1
        cursor.owner = Owner.here(self._generation)
        self._replace(cursor)
        return cursor

    def save(self, cursor: Cursor) -> None:
        """Replace the file.

        Raises:
            LostOwnershipError: Another process has taken over; nothing was written.
            OSError: The disk refused.
        """
        try:
            current = Cursor.model_validate_json(self.path.read_bytes()).owner
        except (FileNotFoundError, ValidationError):
            current = None
        if current is not None and current.generation > self._generation:
            raise LostOwnershipError(
                f"process {current.pid} on {current.host} delivers to {self._sink!r} now"
            )
        self._replace(cursor)

    def release(self) -> None:
        """Let others deliver."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _try_lock(self) -> bool | None:
        """Whether we hold the lock now; None where the file system has none."""
        if self._lock is not None:
            return True
        file = self.path.with_suffix(".lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:
            file.close()
            return None
        self._lock = file
        return True

    def _replace(self, cursor: Cursor) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{socket.gethostname()}.{os.getpid()}")
        try:
            temporary.write_bytes(cursor.model_dump_json().encode() + b"\n")
            temporary.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def _is_me(owner: Owner) -> bool:
    me = Owner.here(owner.generation)
    return me == owner
