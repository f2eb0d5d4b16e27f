"""Whether each destination can be reached with the settings that this shell has.

All are tried at once, each for ten seconds at most, and nothing is left at any of them. What they
say is cleaned of their secrets here, so that no destination need think of it.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from bus import (
    SINKS,
    MisconfiguredError,
    RejectedError,
    Sink,
    SinkContext,
    SinkInfo,
    SinkSettings,
    UnavailableError,
    UnknownSinkError,
)
from bus._plain import mask_urls
from bus._secrets import log_error, secrets_of, without
from runtime.cli._exit import UsageError
from runtime.cli.doctor._finding import Finding, Level

log = logging.getLogger("runtime")

SECONDS: Final = 10.0
"""How long one destination may take to answer."""

_RELEASE: Final = 1.0
_RUN: Final = "RUN"
"""The run that is asked about; nobody makes it."""

_WAITS: Final = "training is not held up: events wait in the journal until it answers"

_NONE: Final = Finding(
    check="sinks",
    level="warn",
    found="no destination is installed",
    advice="pip install --force-reinstall --no-deps hotloop: its list of destinations is missing",
)


def check_sinks(runs: Path, names: Sequence[str] = ()) -> list[Finding]:
    """Try every destination that is ready, and say of each other one what it lacks.

    Args:
        runs: The folder runs are written to.
        names: Which ones; all there are by default. One that was named has to be ready.

    Raises:
        UsageError: There is none of a name.
    """
    known = SINKS.names()
    for name in names:
        if name not in known:
            raise UsageError(str(UnknownSinkError(name, known)))
    chosen = dict.fromkeys(names or known)
    if not chosen:
        return [_NONE]
    return anyio.run(_try_all, runs.absolute(), list(chosen), bool(names))


async def _try_all(runs: Path, names: list[str], named: bool) -> list[Finding]:
    found: dict[str, Finding] = {}

    async def attempt(name: str) -> None:
        found[name] = await _try(runs, name, named=named)

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(attempt, name)
    return [found[name] for name in names]


async def _try(runs: Path, name: str, *, named: bool) -> Finding:
    """Look at one destination, and try it if it is ready."""
    try:
        info = SINKS.look(name)
        if info.readiness != "ready":
            return _unready(info, named=named)
        sink = SINKS.load(name)()
    except Exception as error:  # noqa: BLE001 - somebody else's class; the doctor looks at the rest
        return _broken(name, error, ())
    context = SinkContext(run_dir=runs / _RUN, run_id=_RUN, name=_RUN)
    try:
        return await _tried(name, sink, context)
    finally:
        await _release(name, sink)


async def _tried(name: str, sink: Sink, context: SinkContext) -> Finding:
    secrets = secrets_of(sink.settings)
    try:
        with anyio.fail_after(SECONDS):
            sink.bind(context)
            words = await sink.check()
    except TimeoutError:
        words = f"no answer within {SECONDS:g} s"
        return Finding(check=name, level="problem", found=words, advice=_WAITS)
    except UnavailableError as error:
        return Finding(check=name, level="problem", found=_clean(error, secrets), advice=_WAITS)
    except (MisconfiguredError, RejectedError) as error:
        return _misconfigured(name, error, secrets)
    except Exception as error:  # noqa: BLE001 - a bug in a destination is one finding of many
        return _broken(name, error, secrets)
    return Finding(check=name, level="ok", found=_clean(words, secrets))


async def _release(name: str, sink: Sink) -> None:
    with anyio.move_on_after(_RELEASE, shield=True):
        try:
            await sink.release()
        except Exception as error:  # noqa: BLE001 - what was found out counts, not how it ended
            secrets = secrets_of(sink.settings)
            log_error(log, secrets, "sink %r could not be released", name, error)


def _unready(info: SinkInfo, *, named: bool) -> Finding:
    """What a destination lacks: a problem if it was asked for, a warning if it was begun."""
    level: Level = "ok"
    if named:
        level = "problem"
    elif info.readiness == "not configured" and _is_begun(SINKS.load(info.name).Settings):
        level = "warn"
    return Finding(check=info.name, level=level, found=info.readiness, advice=info.why)


def _is_begun(settings: type[SinkSettings]) -> bool:
    """Whether the environment sets anything of it, so that somebody meant to use it."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    names = {f"{prefix}{field}".upper() for field in settings.model_fields}
    names |= {str(info.validation_alias).upper() for info in settings.model_fields.values()}
    return bool(names & {name.upper() for name, value in os.environ.items() if value})


def _misconfigured(
    name: str, error: MisconfiguredError | RejectedError, secrets: Sequence[str]
) -> Finding:
    fix = error.fix if isinstance(error, MisconfiguredError) else ""
    found = _clean(str(error).removesuffix(f"; {fix}"), secrets)
    advice = _clean(fix, secrets) or "check its settings"
    return Finding(check=name, level="problem", found=found, advice=advice)


def _broken(name: str, error: Exception, secrets: Sequence[str]) -> Finding:
    return Finding(
        check=name,
        level="problem",
        found=f"it raised {type(error).__name__}: {_clean(error, secrets)}",
        advice="this is a bug in the destination: tell whoever made it",
    )


def _clean(words: object, secrets: Sequence[str]) -> str:
    return without(secrets, mask_urls(" ".join(str(words).split())))[:1000]
