"""Delivers what a run's own process did not: after a crash, to a new sink, dead letters."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import anyio

from bus._collector import count_waiting, names_of
from bus._cursor import Cursor, CursorFile, list_cursors
from bus._dead import DeadLetters
from bus._delivery import Delivery
from bus._errors import BusError
from bus._events import Outcome
from bus._failures import DeliveryError
from bus._feed import Feed, FeedReader
from bus._patience import Pace
from bus._reader import JournalReader, Record
from bus._rundir import RunInfo, run_state
from bus._secrets import cleaned, secrets_of
from bus._sink import Batch, Sink, SinkContext, State
from bus._sink_account import SinkAccount
from bus._worker import Worker

Progress = Callable[[SinkAccount], object]
"""Told several times a second how far a sink is; what waits is known as soon as it was counted."""

_LOOK: Final = 0.25
_COUNT: Final = 10.0
"""Seconds for counting what there is to do; a disk that hangs is no reason not to begin."""


def sink_context(run_dir: Path) -> SinkContext:
    """What a sink is told of a run, read from its folder.

    Raises:
        RunNotFoundError: It holds no run.
    """
    info = RunInfo.load(run_dir)
    return SinkContext(run_dir=run_dir, run_id=info.id, name=info.name, project=info.project)


def sync_run(
    run_dir: Path,
    sinks: Sequence[Sink],
    *,
    follow: bool = False,
    take_over: bool = False,
    timeout: float = float("inf"),
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> list[SinkAccount]:
    """Deliver what the sinks have not got yet, and tell them how the run ended if it has.

    Args:
        run_dir: The run's folder.
        sinks: Where to; each goes on behind its cursor, or begins.
        follow: Go on while the run does.
        take_over: Deliver even where another process that lives does.
        timeout: Seconds for everything together.
        pace: How often to look around.
        progress: Told how far each sink is.

    Raises:
        RunNotFoundError: The folder holds no run.
        StillOwnedError: Another process that lives delivers to one of them.
    """
    context = sink_context(run_dir)
    for sink in sinks:
        sink.bind(context)
    sync = _Sync(run_dir, context, take_over=take_over, pace=pace, progress=progress)
    try:
        return anyio.run(sync.run, list(sinks), follow, timeout)
    except BaseExceptionGroup as group:
        error = _only(group)
        if error is None:
            raise
        raise error from None


def resend_dead(run_dir: Path, sink: Sink, *, take_over: bool = False) -> tuple[int, int]:
    """Send a sink's dead letters once more, one by one; what it takes is removed from them.

    Returns:
        How many it took, and how many are left.

    Raises:
        RunNotFoundError: The folder holds no run.
        StillOwnedError: Another process that lives delivers to it.
        DeliveryError: It cannot be reached, or lacks settings.
    """
    context = sink_context(run_dir)
    sink.bind(context)
    return anyio.run(_resend, run_dir, context, sink, take_over)


class _Sync:
    def __init__(
        self,
        run_dir: Path,
        context: SinkContext,
        *,
        take_over: bool,
        pace: Pace | None,
        progress: Progress | None,
    ) -> None:
        self._run_dir = run_dir
        self._context = context
        self._take_over = take_over
        self._pace = pace
        self._progress = progress
        self._work: dict[str, int] = {}

    async def run(self, sinks: list[Sink], follow: bool, seconds: float) -> list[SinkAccount]:
        feed = Feed(self._run_dir)
        deadline = anyio.current_time() + seconds
        workers = [Worker(f"hotloop-disk-{sink.name}") for sink in sinks]
        deliveries = [
            Delivery(
                sink,
                self._context,
                feed,
                disk=worker.call_in_turn,
                take_over=self._take_over,
                patient=False,
                pace=self._pace,
            )
            for sink, worker in zip(sinks, workers, strict=True)
        ]
        async with AsyncExitStack() as stack:
            for worker in workers:
                stack.callback(worker.end)
            group = await stack.enter_async_context(anyio.create_task_group())
            done: set[Delivery] = set()
            if self._progress is not None and not follow:
                await self._count(feed, sinks, min(seconds, _COUNT))

            async def deliver(delivery: Delivery) -> None:
                await delivery.run()
                done.add(delivery)

            for delivery in deliveries:
                group.start_soon(deliver, delivery)
            await self._watch(deliveries, done, follow, deadline)
        self._tell(deliveries)
        return [delivery.account for delivery in deliveries]

    async def _watch(
        self, deliveries: list[Delivery], done: set[Delivery], follow: bool, deadline: float
    ) -> None:
        ended = False
        while len(done) < len(deliveries):
            if not ended and (not follow or run_state(self._run_dir) != "running"):
                ended = True
                outcome = _outcome(self._run_dir)
                for delivery in deliveries:
                    delivery.finish(outcome, deadline)
            if anyio.current_time() > deadline + 1:
                for delivery in deliveries:
                    delivery.abandon()
            self._tell(deliveries)
            with anyio.move_on_after(_LOOK):
                while len(done) < len(deliveries):  # noqa: ASYNC110 - several, of which all count
                    await anyio.sleep(0.01)

    async def _count(self, feed: Feed, sinks: list[Sink], seconds: float) -> None:
        """Find out how much there is to do, if that can be told in time."""

        def count() -> dict[str, int]:
            cursors = list_cursors(self._run_dir)
            found: dict[str, int] = {}
            for sink in sinks:
                cursor = cursors.get(sink.name) or Cursor(sink=sink.name)
                waiting = count_waiting(FeedReader(feed, sink.ranks), cursor, names_of(sink.wants))
                found[sink.name] = waiting + _done(cursor.account(pending=None, complete=False))
            return found

        worker = Worker("hotloop-count")
        with anyio.move_on_after(seconds), suppress(OSError):
            self._work = await worker.call(count)
        worker.end()

    def _tell(self, deliveries: list[Delivery]) -> None:
        if self._progress is not None:
            for delivery in deliveries:
                self._progress(self._counted(delivery.account))

    def _counted(self, account: SinkAccount) -> SinkAccount:
        work = self._work.get(account.name)
        if account.pending is not None or work is None:
            return account
        return replace(account, pending=max(0, work - _done(account)))


def _done(account: SinkAccount) -> int:
    """How many of the records that waited once wait no longer."""
    return account.delivered + account.dead + account.coalesced + account.missing


def _outcome(run_dir: Path) -> Outcome | None:
    """How the run ended; None while it may still live."""
    state = run_state(run_dir)
    if state == "running":
        attempts = JournalReader(run_dir).attempts
        return attempts[-1].outcome if attempts else None
    return state


def _only(group: BaseExceptionGroup[BaseException]) -> BusError | None:
    errors = group.exceptions
    if isinstance(errors[0], BaseExceptionGroup):
        return _only(cast("BaseExceptionGroup[BaseException]", errors[0]))
    return errors[0] if isinstance(errors[0], BusError) else None


async def _resend(
    run_dir: Path, context: SinkContext, sink: Sink, take_over: bool
) -> tuple[int, int]:
    letters = DeadLetters(run_dir, sink.name)
    file = CursorFile(run_dir, sink.name)
    cursor = file.acquire(take_over=take_over)
    state: State = dict(cursor.state)
    secrets = secrets_of(sink.settings)
    left: list[Record] = []
    taken = 0

    async def commit(_count: int, new: State) -> None:
        nonlocal state
        state = new

    try:
        state = await sink.open(context, state)
        for letter, record in letters.read():
            if record is None:
                letters.keep(letter)
                continue
            try:
                with anyio.fail_after(sink.write_timeout):
                    state = await sink.write(Batch([record], commit), state)
                taken += 1
            except DeliveryError as error:
                letters.keep(letter.model_copy(update={"why": cleaned(secrets, str(error))[:1000]}))
                left.append(record)
        letters.replace()
        cursor.state = dict(state)
        cursor.counts.dead = max(0, cursor.counts.dead - taken)
        cursor.counts.delivered += taken
        file.save(cursor)
        if cursor.closed is not None:  # opening may have told the destination that the run goes on
            with anyio.fail_after(sink.write_timeout):
                cursor.state = dict(await sink.close(cursor.closed, state))
            file.save(cursor)
    except DeliveryError as error:
        error.args = (cleaned(secrets, str(error)), *error.args[1:])
        raise
    finally:
        await sink.release()
        file.release()
    return taken, len(left)
