"""Runs a sink's `watch` beside its writes, again whenever it fails."""

import logging
from collections.abc import Awaitable, Callable

import anyio

from bus._failures import Backoff, DeliveryError, UnavailableError
from bus._secrets import cleaned, log_error, secrets_of
from bus._sink import Sink

log = logging.getLogger("bus")


async def watching(sink: Sink, backoff: Backoff, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work with the sink's `watch` beside it, which ends with it.

    Raises:
        Exception: What the work raised; never what `watch` did.
    """
    if type(sink).watch is Sink.watch:
        await work()
        return
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, sink, backoff)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below, where no group wraps it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _watch(sink: Sink, backoff: Backoff) -> None:
    failures, has_told = 0, False
    secrets = secrets_of(sink.settings)
    while True:
        wish = None
        try:
            await sink.watch()
        except DeliveryError as error:
            wish = error.retry_after if isinstance(error, UnavailableError) else None
            log.debug("%s cannot be watched: %s", sink.name, cleaned(secrets, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever a sink does, its delivery goes on
            if not has_told:
                log_error(log, secrets, "the watch of sink %r raised", sink.name, error)
            has_told = True
        else:
            return
        failures += 1
        await anyio.sleep(backoff.delay(failures, wish=wish))
