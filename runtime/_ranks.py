"""Where the ranks of a job meet: a connection of our own to the store that their launcher names.

torchrun's agent holds that store; under other launchers that set MASTER_ADDR and MASTER_PORT, rank
0 does, and shares it with torch's own process group. Ours is a second connection, because a store's
methods hold up everybody else on theirs.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar, cast

from pydantic import JsonValue
from torch.distributed import (  # type: ignore[attr-defined]  # torch documents both there
    DistNetworkError,
    TCPStore,  # pyright: ignore[reportPrivateImportUsage] - likewise
)

from bus import AttemptInfo, Leases, Outcome, RanksError, RunInfo, RunNotFoundError
from runtime._identity import Identity, save
from runtime._world import World

log = logging.getLogger("runtime")

T = TypeVar("T")

_CONNECT: Final = timedelta(seconds=300)
_ANSWER: Final = timedelta(seconds=10)
_FAILING: Final = 3.0
"""Seconds for all ranks to hear of a failure: their writer threads ask once a second at least."""

_MEETINGS: Final = itertools.count(1)
"""All ranks make their runs in the same order, so the number of a run is the same everywhere."""


class Store:
    """What `bus.Leases` needs of torch's TCPStore; its failures become `OSError`.

    Args:
        store: The connection; nobody else uses it.
        prefix: What the keys of this run begin with.
    """

    def __init__(self, store: TCPStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None if it has none; never waits for one."""
        full = self._prefix + key
        return _asked(lambda: self._store.get(full) if self._store.check([full]) else None)

    def get_all(self, keys: Sequence[str]) -> list[bytes] | None:
        """The values of many keys in two round trips; None as long as one of them has none."""
        full = [self._prefix + key for key in keys]
        return _asked(lambda: self._store.multi_get(full) if self._store.check(full) else None)

    def set(self, key: str, value: bytes) -> None:
        """Give a key a value."""
        _asked(lambda: self._store.set(self._prefix + key, value.decode()))

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Replace what a key is expected to hold (b"" for nothing); return what it holds now."""
        full = self._prefix + key
        return _asked(lambda: self._store.compare_set(full, expected.decode(), desired.decode()))


class Ranks:
    """This rank among the others of a run.

    Args:
        world: Which rank it is.
        store: What all ranks share.
        holder: Which process holds it, in words: the store ends with that one.
        holds_store: Whether this is that process.
    """

    def __init__(
        self, world: World, store: Store, *, holds_store: bool, holder: str = "rank 0"
    ) -> None:
        self.world = world
        self.store = store
        self.leases = Leases(store, rank=world.rank)
        self._holder, self._holds_store = holder, holds_store
        self._gatherings = itertools.count(1)

    def share(self, identify: Callable[[], Identity]) -> Identity:
        """Which run and attempt this is: rank 0 finds out and tells the others.

        Args:
            identify: Finds or makes the run; called on rank 0 alone.

        Raises:
            RanksError: Rank 0 said nothing in time, or could not tell.
        """
        if self.world.rank:
            told = cast("dict[str, JsonValue]", self.leases.hear("run", _CONNECT.total_seconds()))
            if "error" in told:
                raise RanksError(f"rank 0 could not begin the run: {told['error']}")
            return self._told(told)
        try:
            known = identify()
        except Exception as error:
            self.leases.tell("run", {"error": f"{type(error).__name__}: {error}"})
            raise
        self.leases.tell(
            "run",
            {
                "folder": str(known.folder.absolute()),
                "stored": known.stored,
                "info": known.info.model_dump(mode="json"),
                "attempt": known.attempt,
                "previous": known.previous,
            },
        )
        return known

    def _told(self, told: dict[str, JsonValue]) -> Identity:
        folder = Path(cast("str", told["folder"]))
        info = RunInfo.model_validate(told["info"])
        attempt, stored = cast("int", told["attempt"]), bool(told["stored"])
        keeps = False
        if stored and not _is_here(info.attempts[-1], folder):
            log.warning(
                "rank %d does not see the run's folder %s as rank 0 does, so its journal stays on "
                "this machine's own disk, where `hotloop` on other machines does not find it",
                self.world.rank,
                folder,
            )
            keeps = self.world.local_rank == 0
            if keeps:
                info.attempts[-1] = AttemptInfo.here(attempt, info.attempts[-1].resumed_from_step)
                stored = save(info, folder)
        previous = cast("Outcome | None", told["previous"])
        return Identity(folder, stored, info, attempt, previous, keeps=keeps)

    def gather(self, call: str, seconds: float) -> None:
        """Come together before a call that needs all ranks, so that it cannot hang for want of one.

        Args:
            call: What is called.
            seconds: How long to wait for the others.

        Raises:
            RanksError: They have not come in time, or to another call.
        """
        number = next(self._gatherings)
        deadline, pause = time.monotonic() + seconds, 0.001
        try:
            self.store.set(f"gathering-{number}-{self.world.rank}", call.encode())
            missing = set(range(self.world.size))
            while missing := {each for each in missing if not self._came(number, each, call)}:
                if time.monotonic() > deadline:
                    raise RanksError(
                        f"{call} needs every rank, and {_listed(missing)} of {self.world.size} has "
                        f"not come to it within {seconds:g} s: call it on all ranks alike"
                    )
                time.sleep(pause)
                pause = min(0.1, pause * 2)
        except OSError as error:
            raise RanksError(f"rank {self.world.rank} waits in {call}: {error}") from error

    def _came(self, number: int, rank: int, call: str) -> bool:
        found = self.store.get(f"gathering-{number}-{rank}")
        if found is not None and found.decode() != call:
            raise RanksError(
                f"{call} needs every rank, and rank {rank} calls {found.decode()} instead: ranks "
                "must make such calls alike and in the same order"
            )
        return found is not None

    def fail(self, why: str) -> str:
        """Tell the others that this rank fails, and why.

        Returns:
            What the first rank to fail said, or that the store is gone: the same words on every
            rank.
        """
        ended = [rank for rank in range(self.world.size) if self.has_left(rank)]
        if ended:
            why += f"; before that ended {_listed(ended)}"
        lost = f"the store that the ranks share does not answer; {self._holder} holds it"
        return self.leases.fail(why) or lost

    def leave(self, seconds: float) -> None:
        """Say that this rank has passed its last safe point.

        Whoever holds the store waits until all have; where a rank has failed, until all know of it,
        and not for long, since those that were killed never will.

        Args:
            seconds: How long to wait for them at most.
        """
        with suppress(OSError):
            self.store.set(f"left-{self.world.rank}", b"left")
        if not self._holds_store:
            return
        failing = self.leases.failure() is not None
        deadline = time.monotonic() + (min(seconds, _FAILING) if failing else seconds)
        waiting = set(range(self.world.size))
        while waiting and time.monotonic() < deadline:
            waiting = {rank for rank in waiting if not self._needs_no_store(rank)}
            time.sleep(0.01 if waiting else 0)
        if waiting and not failing:
            log.warning(
                "rank 0 ends while %s goes on; it will fail at its next safe point, because rank 0 "
                "holds the store that the ranks share",
                _listed(waiting),
            )

    def _needs_no_store(self, rank: int) -> bool:
        return self.has_left(rank) or self.leases.has_heard(rank)

    def has_left(self, rank: int) -> bool:
        """Whether a rank has passed its last safe point; False where the store does not answer."""
        try:
            return self.store.get(f"left-{rank}") is not None
        except OSError:
            return False


def meet(environment: Mapping[str, str] = os.environ) -> Ranks | None:
    """Meet the other ranks of this job; None where there are none.

    Raises:
        RanksError: The launcher names no place to meet, or nobody answers there.
    """
    world = World.here(environment)
    if world.alone:
        return None
    host, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT", "")
    if not host or not port.isdecimal():
        raise RanksError(
            f"this is rank {world.rank} of {world.size}, but MASTER_ADDR={host!r} and "
            f"MASTER_PORT={port!r} name no place where the ranks can meet. Start them with "
            "torchrun, or set both, on every rank alike, to rank 0's address and a free port"
        )
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    holds = world.rank == 0 and not agent
    try:
        store = TCPStore(
            host,
            int(port),
            world_size=None,
            is_master=holds,
            timeout=_CONNECT,
            wait_for_workers=False,
            multi_tenant=True,  # torch's process group may hold it there already, or will
        )
    except RuntimeError as error:
        raise RanksError(
            f"rank {world.rank} cannot meet the others at {host}:{port}: {_brief(error)}"
        ) from error
    store.set_timeout(_ANSWER)
    job = environment.get("TORCHELASTIC_RUN_ID", "")
    restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    prefix = f"hotloop/{job}/{restarts}/{next(_MEETINGS)}/"
    holder = "torchrun's agent" if agent else "rank 0"
    return Ranks(world, Store(store, prefix), holds_store=holds, holder=holder)


def _is_here(attempt: AttemptInfo, folder: Path) -> bool:
    """Whether run.json here is the one to which rank 0 has added its attempt."""
    try:
        found = RunInfo.load(folder).attempt(attempt.number)
    except RunNotFoundError:
        return False
    return found is not None and (found.pid, found.host, found.started) == (
        attempt.pid,
        attempt.host,
        attempt.started,
    )


def _listed(ranks: Iterable[int]) -> str:
    return f"rank {', '.join(map(str, sorted(ranks)))}"


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except DistNetworkError as error:
        raise ConnectionError(_brief(error)) from error
    except RuntimeError as error:  # torch's other errors of a store
        raise OSError(_brief(error)) from error


def _brief(error: BaseException) -> str:
    """The first sentence of torch's message, without the C++ stack below it."""
    return str(error).partition("\n")[0]
