"""Delivers a run's journal to one sink: in order, again after failures, and never blindly.

```
own the cursor ─► open ─► ┌ collect a batch ─► note its bounds ─► write ─► acknowledge ┐ ─► close
                          └──────────────────────◄─────────────────────────────────────┘
unavailable      wait (full jitter, the server's own wish), the same batch again, for ever
rejected         the guilty records, found by halving if need be, become dead letters
held back        the same batch again, longer by what has come behind it meanwhile
misconfigured    suspended: said once, tried again every ten minutes
anything else    a bug: logged once, tried again five times, then suspended
```

Waits are measured on the event loop's clock. Everything that touches the disk goes through `disk`,
so that a disk that hangs holds up this delivery and nobody else.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from bus._beside import watching
from bus._collector import Collector, Disk
from bus._cursor import Cursor, CursorFile, LostOwnershipError
from bus._dead import DeadLetters
from bus._events import Outcome, SinkStatus
from bus._failures import (
    DeliveryError,
    HeldBackError,
    MisconfiguredError,
    RejectedError,
    UnavailableError,
)
from bus._feed import Feed, FeedReader
from bus._lengthening import LONGEST, lengthened
from bus._owning import Owning
from bus._parts import Part
from bus._patience import OverError, Pace, Patience
from bus._rates import RateLimiter
from bus._reader import Record
from bus._requests import Request
from bus._secrets import cleaned, log_error, secrets_of
from bus._sink import Batch, Sink, SinkContext, State
from bus._sink_account import SinkAccount
from bus._verdicts import Verdicts

log = logging.getLogger("bus")

_REJECTED_IN_A_ROW: Final = 20
_CLOSE: Final = 60.0
_RELEASE: Final = 0.4
_HOPELESS: Final = 5
"""Failures in a row after which closing tries once more and no longer."""


class Delivery:
    """One sink's way through a run.

    Args:
        sink: The destination.
        context: The run.
        feed: Its journal.
        disk: Makes calls that may wait for a disk.
        announce: Told of each change of health.
        take_over: Deliver even if another process that lives does.
        patient: Whether to wait for another process that delivers, or raise.
        pace: How often to look around.
        asks: Takes what the sink asks of the training; None where none is under way.
    """

    def __init__(
        self,
        sink: Sink,
        context: SinkContext,
        feed: Feed,
        *,
        disk: Disk,
        announce: Callable[["Delivery"], None] | None = None,
        take_over: bool = False,
        patient: bool = True,
        pace: Pace | None = None,
        asks: Callable[[Request], object] | None = None,
    ) -> None:
        self.sink = sink
        self._watched = asks is not None
        if asks is not None:
            sink.ask_through(asks)
        self.cursor = Cursor(sink=sink.name)
        self.failures = self._rejected = 0
        self._context = context
        self._reader = FeedReader(feed, sink.ranks)
        self._file = CursorFile(context.run_dir, sink.name)
        self._dead = DeadLetters(context.run_dir, sink.name)
        self._disk, self._announce = disk, announce
        self._take_over, self._patient = take_over, patient
        self._pace, self._patience = pace or Pace(), Patience()
        self._rates = RateLimiter(sink.limits.rates)
        self._secrets = secrets_of(sink.settings)
        self._collector = self._new_collector()
        self._verdicts = Verdicts(sink, self._secrets)
        self._state: State = {}
        self._scope: anyio.CancelScope | None = None
        self._delivered_all = False
        self._pending: int | None = None
        self._waiting_since: float | None = None

    @property
    def account(self) -> SinkAccount:
        """What has been done so far."""
        finished = self._delivered_all and self.cursor.health.status == "finished"
        pending = 0 if self._delivered_all else self._pending
        since = self._waiting_since
        return self.cursor.account(pending=pending, complete=finished, waiting_since=since)

    def finish(self, outcome: Outcome | None, deadline: float) -> None:
        """Deliver what is there, tell the sink the outcome unless the run lives on, and end."""
        self._patience.finish(outcome, deadline)

    def stir(self) -> None:
        """Look again now: there is something new, or a suspended sink may work again."""
        self._patience.stir()

    async def run(self) -> None:
        """Deliver until told to finish.

        Raises:
            StillOwnedError: Another process delivers, and this one was not to wait for it.
        """
        try:
            with anyio.CancelScope() as self._scope:
                await self._deliver_everything()
        except OverError:
            log.debug("%s has no more time", self.sink.name)
        except LostOwnershipError as error:
            self._health("ended", str(error))
        finally:
            with anyio.CancelScope(shield=True):
                await self._let_go()

    def abandon(self) -> None:
        """End now, on the loop's thread; what was under way is sent again by whoever goes on."""
        self._patience.deadline = 0.0
        if self._scope is not None:
            self._scope.cancel()

    async def _deliver_everything(self) -> None:
        await self._own()
        self._health("opening")  # once, however often it is tried
        await self._insist(self._open)
        if self._watched:
            await watching(self.sink, self._pace.backoff, self._deliver_all)
        else:
            await self._deliver_all()
        self._delivered_all = True
        await self._insist(self._close)
        self._health("finished")

    async def _own(self) -> None:
        gives_way = self._pace.take_over if self._patient else None
        tell = partial(self._health, "waiting")
        owning = Owning(self._file, self._disk, self._patience, gives_way, tell)
        self.cursor = await owning.own(self._pace.look * 5, take_over=self._take_over)
        self._state = dict(self.cursor.state)
        self.cursor.closed = None
        self._collector = self._new_collector()

    def _new_collector(self) -> Collector:
        return Collector(self._reader, self.cursor, self.sink, self._disk)

    async def _open(self) -> None:
        self._state = await self.sink.open(self._context, self._state)
        self._health("delivering")
        await self._save()

    async def _close(self) -> None:
        outcome = self._patience.outcome
        if outcome is None:
            return
        left = max(1.0, min(_CLOSE, self._patience.deadline - anyio.current_time()))
        with anyio.fail_after(left):
            self._state = await self.sink.close(outcome, self._state)
        self.cursor.closed = outcome

    async def _let_go(self) -> None:
        with anyio.move_on_after(_RELEASE):
            try:
                await self.sink.release()
            except Exception as error:  # noqa: BLE001 - whatever a sink does, training goes on
                log_error(
                    log, self._secrets, "sink %r could not be released", self.sink.name, error
                )
        with anyio.move_on_after(_RELEASE):
            try:
                await self._save()
                if not self._delivered_all:
                    self._pending = await self._collector.count_pending()
            except LostOwnershipError:
                log.info("%r: another process delivers now", self.sink.name)
            except OSError as error:
                log.debug("what waits for %s could not be counted: %s", self.sink.name, error)
        self._file.release()

    async def _deliver_all(self) -> None:
        while await self._deliver_some():
            pass

    async def _deliver_some(self) -> bool:
        """Deliver one part or wait for it; False when closing has nothing more to deliver."""
        ending = self._patience.ending
        found = await self._collector.next(all_of_it=ending)
        if isinstance(found, Part):
            self._waiting_since = found.records[0].event.time
            await self._save()
            await self._deliver(found)
            self._waiting_since = None
        elif ending:
            return False
        else:
            wait = found - anyio.current_time() if found is not None else self._pace.look
            await self._patience.sleep(min(wait, self._pace.look), stirred=True)
        return True

    async def _deliver(self, part: Part) -> None:
        """Send a part until it is acknowledged or dead."""
        left = deque([part])
        failures = longer = 0
        while left:
            await self._rates.wait()
            failure = await self._send(left, failures)
            if failure is None:
                self._good()
                failures = 0
            elif isinstance(failure, RejectedError):
                await self._take_apart(left, failure)
                failures = 0
            elif isinstance(failure, HeldBackError) and longer < LONGEST and len(left) == 1:
                longer += 1
                await self._lengthen(left, failure)
            else:
                failures += 1
                await self._hold(failure)

    async def _send(self, left: deque[Part], failures: int) -> DeliveryError | None:
        """Write the first of these parts; tell what went wrong."""

        async def commit(count: int, state: State) -> None:
            await self._acknowledge(left, count, state)

        batch = Batch(left[0].records, commit, failures=failures)
        state: State = {}

        async def write() -> None:
            nonlocal state
            state = await self.sink.write(batch, dict(self._state))

        failure = await self._tried(write)
        if failure is not None:
            return failure
        if left and left[0].records[-1] is batch[-1]:
            await self._acknowledge(left, len(left[0].records), state)
        else:
            self._state = state
        return None

    async def _lengthen(self, left: deque[Part], failure: HeldBackError) -> None:
        """Wait as long as part of the batch must, or until there is more behind it."""
        self.failures = 0  # whoever says so can be reached
        self._health("backing off", self._clean(str(failure)))
        left[0] = await lengthened(
            left[0],
            self._collector,
            self._patience,
            delay=self._pace.backoff.delay(1, wish=failure.retry_after),
            look=self._pace.look,
            age=self.sink.limits.age,
        )
        await self._advance(left[0], left)

    async def _acknowledge(self, left: deque[Part], count: int, state: State) -> None:
        """The first records of the first part are delivered."""
        part = left.popleft()
        if not 0 <= count <= len(part.records):
            left.appendleft(part)
            raise ValueError(f"commit({count}) of a batch with {len(part.records)} records left")
        if (rest := part.behind(count)) is not None:
            left.appendleft(rest)
        self.cursor.counts.delivered += count
        self._state = state
        await self._advance(part, left)

    async def _advance(self, done: Part, left: deque[Part]) -> None:
        """Remember how far we are and what is under way."""
        position = self.cursor.position(done.stream.attempt, done.stream.rank)
        position.parts = [(part.first, part.last) for part in left]
        position.delivered = left[0].first - 1 if left else done.last
        done.count_left_out(self.cursor.counts, position.delivered)
        await self._save()

    async def _take_apart(self, left: deque[Part], failure: RejectedError) -> None:
        """Bury the guilty records, or halve the part until they are found."""
        part = left.popleft()
        guilty = {index for index in failure.guilty if 0 <= index < len(part.records)}
        if len(part.records) == 1:
            guilty = {0}
        for index in sorted(guilty):
            await self._bury(part.records[index], str(failure))
        rest = [part.without(guilty)] if guilty else part.halves()
        left.extendleft(each for each in reversed(rest) if each is not None)
        await self._advance(part, left)
        if self._rejected >= _REJECTED_IN_A_ROW:
            self._rejected = 0
            await self._hold(
                MisconfiguredError(
                    f"{_REJECTED_IN_A_ROW} records in a row were refused, the last: {failure}",
                    fix=f"look at {self._dead.path}",
                )
            )

    async def _bury(self, record: Record, words: str) -> None:
        self._rejected += 1
        self.cursor.counts.dead += 1
        words = self._clean(words)
        if self.cursor.counts.dead == 1:
            log.warning("%s refused an event; see %s: %s", self.sink.name, self._dead.path, words)
        try:
            await self._disk(self._dead.bury, record, words)
        except OSError as error:
            log.warning("a dead letter could not be kept: %s", error)

    def _understood(self, error: BaseException) -> DeliveryError:
        self.failures += 1
        self.cursor.counts.failures += 1
        return self._verdicts.on(error)

    async def _insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Call until it succeeds."""
        while (failure := await self._tried(attempt)) is not None:
            if isinstance(failure, RejectedError):
                failure = MisconfiguredError(str(failure))
            await self._hold(failure)
        self._good()

    async def _tried(self, attempt: Callable[[], Awaitable[None]]) -> DeliveryError | None:
        """Call once; whatever a sink does, training goes on, and so does the delivery."""
        try:
            with anyio.fail_after(self.sink.write_timeout):
                await attempt()
        except LostOwnershipError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # noqa: BLE001 - said above
            return self._understood(error)
        return None

    def _good(self) -> None:
        self.failures = self._rejected = 0
        self._verdicts.forget()
        if self.cursor.health.status != "delivering" and not self._delivered_all:
            self._health("delivering")

    async def _hold(self, failure: DeliveryError) -> None:
        """Wait before the next try.

        Raises:
            OverError: The run closes and another try has no hope.
        """
        words = self._clean(str(failure))
        if isinstance(failure, MisconfiguredError):
            self._health("suspended", words)
            if self._patience.ending:
                raise OverError
            await self._patience.sleep(self._pace.rearm, stirred=True)
            return
        self._health("backing off", words)
        wish = failure.retry_after if isinstance(failure, UnavailableError) else None
        delay = self._pace.backoff.delay(self.failures, wish=wish)
        await self._patience.sleep(delay, obeys=wish is not None)
        closing = self._patience.ending
        if closing and (self.failures > _HOPELESS or self._patience.exhausted):
            raise OverError

    async def _save(self) -> None:
        self.cursor.state = dict(self._state)
        try:
            await self._disk(self._file.save, self.cursor)
        except OSError as error:
            # Going on without it can only send something twice; standing still helps nobody.
            log.debug("%s cannot be written: %s", self._file.path, error)

    def _health(self, status: SinkStatus, reason: str = "") -> None:
        before = self.cursor.health
        after = self.cursor.health = before.moved_to(status, reason, self.sink.url)
        changed = (after.status, after.url) != (before.status, before.url)
        if changed and self._announce is not None:
            self._announce(self)

    def _clean(self, words: str) -> str:
        return cleaned(self._secrets, words)[:1000]
