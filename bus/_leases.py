"""Lets the ranks of a run pass safe points only as far as all of them know what was decided before.

Leaderless step leases. A rank counts its safe points as ticks, and all ranks count alike. One key
of a store that every rank reaches says up to which tick they may go (`granted`) and which decision
was the last. Whoever runs short raises `granted`; whoever asks for something adds a decision *at*
`granted`, a tick that nobody has passed yet. Both happen by compare-and-set of the same key, so a
rank that goes beyond a tick has read every decision at or before it. No collective, no leader: a
rank never waits for another, only for the store, and that in the step path once a few tenths of a
second.

```
tick     1 2 3 4 5 6 7 8 9
rank 0         ^ is here          granted = 7: ranks 0 and 1 may pass 1 to 6
rank 1       ^ is here            rank 1 asks for a stop: it is decided at 7, granted becomes 9
```
"""

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, cast

import orjson
from pydantic import JsonValue

from bus._errors import RanksError
from bus._interrupts import deferred_interrupt
from bus._pace import Pace
from bus._rank_store import RankStore

log = logging.getLogger("bus")

PHASE: Final = 1 << 40
"""Ticks of one phase at most: a tick is the phase's number times this plus its index there."""

_LEAST: Final = 2
_MOST: Final = 128
"""Ticks ahead that are granted; the more there are, the later a decision takes effect."""

_KEY: Final = "lease"
_RETRY: Final = 0.1
_SELDOM: Final = 1.0
"""Seconds after which the store is asked in any case: a rank in a collective hears of failures."""

_LOST: Final = 5.0
"""Seconds to wait for a store whose connection is lost: it keeps its keys in memory alone."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Something that takes effect on every rank at the first safe point from a tick on.

    Attributes:
        tick: From which tick on.
        rank: Who asked.
        number: Which of its requests this is.
        request: The request, as JSON.
    """

    tick: int
    rank: int
    number: int
    request: JsonValue


@dataclass(frozen=True, slots=True)
class _Word:
    """What the key holds.

    Attributes:
        granted: Ticks below it may be passed.
        last: The key of the record that was decided last.
        failed: The key that says which rank failed first; from then on nobody passes anything.
    """

    granted: int = 0
    last: str = ""
    failed: str = ""

    def encode(self) -> bytes:
        return f"{self.granted} {self.last} {self.failed}".encode()

    @classmethod
    def decode(cls, raw: bytes) -> "_Word":
        granted, last, failed = raw.decode().split(" ")
        return cls(int(granted), last, failed)


class Leases:
    """One rank's side of the leases.

    `passes` and `due` belong to the training thread, `propose` to any thread, `extend` to the
    writer thread; it also serves the training thread when the writer is late.

    Args:
        store: What all ranks share.
        rank: This rank.
        ahead: Seconds of ticks that are granted ahead; a decision takes effect about so much later.
        patience: Seconds without an answer of the store after which a safe point fails.
    """

    def __init__(
        self, store: RankStore, *, rank: int, ahead: float = 0.3, patience: float = 60.0
    ) -> None:
        self.rank: int = rank
        self.exchanges: int = 0
        """Times the store was asked."""
        self._store = store
        self._ahead = ahead
        self.patience: float = patience
        self._lock = threading.Lock()
        self._tick = 0
        self._limit = 0  # below it a tick passes without a look at anything else
        self._raw = b""
        self._word = _Word()
        self._decided: deque[Decided] = deque()
        self._proposals: deque[tuple[int, JsonValue]] = deque()
        self._records = 0
        self._pace = Pace(time.monotonic())
        self._failed: OSError | None = None
        self._failure: str | None = None
        self._asked_at = 0.0

    @property
    def tick(self) -> int:
        """Safe points counted so far, in the present phase and with it."""
        return self._tick

    def begin_phase(self) -> None:
        """Count from 0 in a new phase, whose ticks take another time than those before."""
        self._tick = (self._tick // PHASE + 1) * PHASE
        self._pace = Pace(time.monotonic())

    def passes(self) -> bool:
        """Count a safe point; tell whether nothing is due there. The training thread's fast way."""
        self._tick += 1
        return self._tick < self._limit

    def due(self) -> list[Decided]:
        """What takes effect at the safe point just counted, the same on every rank.

        Raises:
            RanksError: The store does not answer, so nobody can know what others have decided.
        """
        started = time.monotonic()
        while self._tick >= self._word.granted and not self._word.failed:
            if self._exchange_in_time() or self._tick < self._word.granted:
                continue
            lost = isinstance(self._failed, ConnectionError)
            patience = min(self.patience, _LOST) if lost else self.patience
            if time.monotonic() - started > patience:
                raise RanksError(
                    f"rank {self.rank} cannot go on: the store that the ranks share has not "
                    f"answered for {patience:g} s ({self._failed}), so that what other ranks "
                    "have decided is unknown here. Look at the process that holds it: torchrun's "
                    "agent, or rank 0"
                )
            time.sleep(_RETRY)
        if self._word.failed:
            raise RanksError(self.failure() or "another rank has failed")
        with self._lock:
            due: list[Decided] = []
            while self._decided and self._decided[0].tick <= self._tick:
                due.append(self._decided.popleft())
            self._set_limit()
        return due

    def confirm(self, step: int | None) -> None:
        """Check that every rank is at the same step where something takes effect.

        Args:
            step: Where this rank is, by its own count.

        Raises:
            RanksError: Another rank has come to this safe point at another step.
        """
        mine = str(step).encode()
        try:
            held = self._store.compare_set(f"step-{self._tick}", b"", mine)
        except OSError:
            return  # it is a check and no condition
        if held != mine:
            raise RanksError(
                f"rank {self.rank} is at step {step} where another rank was at step "
                f"{held.decode()}: what was decided would take effect at different steps. All "
                "ranks must call safe_point equally often, evaluation included"
            )

    def fail(self, why: str) -> str | None:
        """Say that this rank cannot go on, so that the others end as well; the first word counts.

        Returns:
            Why the ranks end: what the first of them to fail said, which may be another's words.
            None if the store does not answer, so that each rank would have words of its own.
        """
        mine = f"rank {self.rank}: {why}"
        try:
            self._store.set(f"failed-{self.rank}", mine.encode())
            with self._lock:
                while not self._word.failed:
                    desired = replace(self._word, failed=f"failed-{self.rank}").encode()
                    self._learn(self._store.compare_set(_KEY, self._raw, desired))
        except OSError as error:
            log.warning("the other ranks cannot be told of this failure: %s", error)
        return self.failure()

    def failure(self) -> str | None:
        """Which rank failed first, and why, as far as is known here; None if none has."""
        if self._word.failed and self._failure is None:
            with suppress(OSError):
                self._hear_failure()
        named = f"{self._word.failed} is all that is known" if self._word.failed else None
        return self._failure or named

    def has_heard(self, rank: int) -> bool:
        """Whether a rank knows that one has failed, and why; False if the store does not answer."""
        try:
            return self._store.get(f"heard-{rank}") is not None
        except OSError:
            return False

    def take_ahead(self) -> list[Decided]:
        """Take what was decided for later ticks, for a rank that will not come to them.

        What is proposed here is decided before that, unless a rank has failed already. If the store
        does not answer, it counts all the same.
        """
        self._exchange_in_time()
        with self._lock:
            mine = [] if self._word.failed else [*self._proposals]
            found = [*self._decided, *(Decided(self._tick, self.rank, *each) for each in mine)]
            self._decided.clear()
        return found

    def tell(self, name: str, value: JsonValue) -> None:
        """Say something to all ranks, once under each name.

        Raises:
            RanksError: The store does not answer.
        """
        try:
            self._store.set(f"told-{name}", orjson.dumps(value))
        except OSError as error:
            raise RanksError(f"rank {self.rank} cannot say {name!r} to others: {error}") from error

    def hear(self, name: str, seconds: float) -> JsonValue:
        """Wait until another rank has said something.

        Args:
            name: What it is told under.
            seconds: How long to wait at most.

        Raises:
            RanksError: Nothing came in time, or the store does not answer.
        """
        deadline, pause = time.monotonic() + seconds, 0.001
        while True:
            try:
                said = self._store.get(f"told-{name}")
            except OSError as error:
                raise RanksError(f"rank {self.rank} waits for {name!r}: {error}") from error
            if said is not None:
                return cast("JsonValue", orjson.loads(said))
            if time.monotonic() > deadline:
                raise RanksError(
                    f"rank {self.rank} has waited {seconds:g} s for rank 0 to say {name!r}; all "
                    "ranks must come by here, and rank 0 may have ended"
                )
            time.sleep(pause)
            pause = min(_RETRY, pause * 2)

    def tell_verdict(self, number: int, requests: list[JsonValue]) -> None:
        """Say what deciders ask for at the event of this number; rank 0 does.

        Raises:
            RanksError: The store does not answer.
        """
        self.tell(f"verdict-{number}", requests)

    def hear_verdict(self, number: int, seconds: float) -> list[JsonValue]:
        """What rank 0's deciders ask for, who may take so many seconds.

        Raises:
            RanksError: It has not been said in time.
        """
        return cast("list[JsonValue]", self.hear(f"verdict-{number}", seconds + self.patience))

    def propose(self, number: int, request: JsonValue) -> None:
        """Have something decided; the writer thread writes it down in its next turn."""
        self._proposals.append((number, request))

    def extend(self) -> None:
        """Write down what is proposed, and grant more ticks if few are left."""
        now = time.monotonic()
        self._pace.observe(self._tick, now)
        if self._word.failed:
            return
        left = self._word.granted - self._tick
        few = left <= max(_LEAST, self._pace.ticks(self._ahead)) / 2
        if few or self._proposals or now - self._asked_at > _SELDOM:
            self._exchange_in_time()

    def _exchange_in_time(self) -> bool:
        """Ask the store; tell whether it answered."""
        if not self._lock.acquire(timeout=_RETRY):
            return False  # the other thread is asking it just now
        try:
            with deferred_interrupt():  # half an exchange would count a decision twice
                self._exchange()
        except OSError as error:
            if self._failed is None:
                log.warning("the store that the ranks share does not answer: %s", error)
            self._failed = error
            return False
        finally:
            self._lock.release()
        self._failed = None
        return True

    def _exchange(self) -> None:
        self._asked_at = time.monotonic()
        self._pace.observe(self._tick, self._asked_at)
        while not self._word.failed:  # then nothing is decided any more
            self.exchanges += 1
            known, proposed = self._word, list(self._proposals)
            ahead = min(_MOST, max(_LEAST, self._pace.ticks(self._ahead)))
            # One more than before at least: a decision at `granted` is read by whoever passes it.
            granted = max(known.granted + bool(proposed), self._tick + 1 + ahead)
            last = self._write_record(known, proposed) if proposed else known.last
            desired = replace(known, granted=granted, last=last).encode()
            self._learn(self._store.compare_set(_KEY, self._raw, desired))
            if not self._proposals and self._word.granted > self._tick + _LEAST:
                return  # also where another rank was faster and has granted enough

    def _write_record(self, known: _Word, proposed: list[tuple[int, JsonValue]]) -> str:
        self._records += 1
        key = f"decided-{self.rank}-{self._records}"
        record = {
            "tick": known.granted,
            "rank": self.rank,
            "before": known.last,
            "requests": [[number, request] for number, request in proposed],
        }
        self._store.set(key, orjson.dumps(record))
        return key

    def _learn(self, raw: bytes) -> None:
        """Take over what the key holds: first what was decided, then how far one may go."""
        word = _Word.decode(raw)
        news: list[Decided] = []
        key = word.last
        while key != self._word.last:
            found = self._store.get(key)
            if found is None:
                raise OSError(f"the store has lost {key!r}")
            record = orjson.loads(found)
            requests = [
                Decided(record["tick"], record["rank"], number, request)
                for number, request in record["requests"]
            ]
            news = requests + news
            key = record["before"]
        self._decided.extend(news)
        self._raw, self._word = raw, word
        self._set_limit()
        if word.failed:
            self._hear_failure()
        # Also those of which the store's answer was lost on its way.
        decided = {each.number for each in news if each.rank == self.rank}
        while self._proposals and self._proposals[0][0] in decided:
            self._proposals.popleft()

    def _hear_failure(self) -> None:
        """Keep the words, for they may be wanted when the store is gone, and say so."""
        said = self._store.get(self._word.failed)
        self._failure = said.decode() if said is not None else None
        self._store.set(f"heard-{self.rank}", b"")

    def _set_limit(self) -> None:
        first = self._decided[0].tick if self._decided else self._word.granted
        self._limit = 0 if self._word.failed else min(first, self._word.granted)
