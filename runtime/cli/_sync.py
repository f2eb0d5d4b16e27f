"""`hotloop sync`: deliveries without the process that trained."""

import math
from collections.abc import Sequence
from pathlib import Path

from bus import (
    SINKS,
    BusError,
    DeliveryError,
    MissingPackageError,
    NotConfiguredError,
    Sink,
    SinkAccount,
    StillOwnedError,
    UnknownSinkError,
    list_cursors,
    resend_dead,
    sync_run,
)
from runtime.cli._exit import CommandError, UsageError
from runtime.cli._output import show, show_json
from runtime.cli._sync_progress import SyncProgress


def deliver(
    folders: Sequence[Path],
    names: Sequence[str],
    *,
    follow: bool,
    take_over: bool,
    timeout: float | None,
    as_json: bool,
) -> bool:
    """Deliver runs to sinks, one run after another; tell whether nothing is left.

    Raises:
        UsageError: A sink is unknown or lacks settings, or another process delivers.
    """
    accounts: dict[str, list[SinkAccount]] = {}
    for folder in folders:
        with SyncProgress(folder, quiet=as_json) as progress:
            accounts[str(folder)] = _delivered(
                folder, names, follow=follow, take_over=take_over, timeout=timeout, told=progress
            )
    if as_json:
        show_json(accounts)
    return all(
        each.complete and not each.dead and not each.missing
        for found in accounts.values()
        for each in found
    )


def resend(
    folders: Sequence[Path], names: Sequence[str], *, take_over: bool, as_json: bool
) -> bool:
    """Send dead letters once more; tell whether none is left.

    Raises:
        UsageError: A sink is unknown or lacks settings, or another process delivers.
        CommandError: The destination cannot be reached.
    """
    left: dict[str, dict[str, tuple[int, int]]] = {}
    for folder in folders:
        chosen = names or sorted(path.stem for path in (folder / "dead").glob("*.jsonl"))
        left[str(folder)] = {}
        for sink in _made(chosen):
            try:
                found = resend_dead(folder, sink, take_over=take_over)
            except StillOwnedError as error:
                raise UsageError(str(error)) from error
            except DeliveryError as error:
                raise CommandError(f"{sink.name}: {error}") from error
            left[str(folder)][sink.name] = found
            if not as_json:
                show(f"{sink.name}: {found[0]} taken, {found[1]} refused again")
    if as_json:
        show_json(left)
    return not any(refused for found in left.values() for _, refused in found.values())


def _delivered(
    folder: Path,
    names: Sequence[str],
    *,
    follow: bool,
    take_over: bool,
    timeout: float | None,
    told: SyncProgress,
) -> list[SinkAccount]:
    chosen = names or list(list_cursors(folder))
    if not chosen:
        raise UsageError(
            f"{folder} has not delivered to any sink yet; name one with --sink "
            f"({', '.join(SINKS.names()) or 'none is installed'})"
        )
    try:
        return sync_run(
            folder,
            _made(chosen),
            follow=follow,
            take_over=take_over,
            timeout=math.inf if timeout is None else timeout,
            progress=told.tell,
        )
    except StillOwnedError as error:
        raise UsageError(f"{error}: --take-over, if you know better") from error
    except BusError as error:
        raise CommandError(str(error)) from error


def _made(names: Sequence[str]) -> list[Sink]:
    try:
        return SINKS.make(list(names))[0]
    except (UnknownSinkError, NotConfiguredError, MissingPackageError) as error:
        raise UsageError(str(error)) from error
