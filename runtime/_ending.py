"""How a run ends: what can be concluded from how its loop was left, and what is said about it."""

import logging
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from bus import (
    Account,
    Control,
    Metrics,
    Outcome,
    Preempt,
    RunEnded,
    SinkAccount,
    Statistics,
    mask_urls,
)
from runtime._metrics import error_text
from runtime._preemption import Preempted

log = logging.getLogger("runtime")

_ERROR_LENGTH = 2000
_BUSY = 0.02
"""Share of a core above which a hint is worth its line."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an attempt.

    Attributes:
        outcome: How it ended.
        error: The exception's type and message when it failed.
        reason: Who stopped it and why when it was stopped.
        time: When, in Unix seconds.
    """

    outcome: Outcome
    error: str | None
    reason: str | None
    time: float

    def event(self, statistics: Metrics) -> RunEnded:
        """The last event of the journal."""
        return RunEnded(
            outcome=self.outcome, error=self.error, reason=self.reason, statistics=statistics
        )


def conclude(outcome: Outcome | None, error: BaseException | None, control: Control) -> Ending:
    """Conclude how a run ended from how its loop was left.

    Args:
        outcome: What the user says, which counts more than what can be seen.
        error: The exception that left the loop, if one did.
        control: Knows whether a `Stop` took effect.
    """
    now = time.time()
    if isinstance(error, Preempted) or (isinstance(error, SystemExit) and not error.code):
        error = None
    if isinstance(error, KeyboardInterrupt):
        return Ending(outcome or "stopped", None, "KeyboardInterrupt", now)
    if error is not None:
        text = mask_urls(error_text(error))[:_ERROR_LENGTH]
        return Ending(outcome or "failed", text, None, now)
    stop = control.stopped_by
    if stop is not None:
        reason = f"{stop.by}: {stop.reason}" if stop.reason else stop.by
        ended: Outcome = "preempted" if isinstance(stop, Preempt) else "stopped"
        return Ending(outcome or ended, None, reason, now)
    return Ending(outcome or "finished", None, None, now)


def report_account(folder: Path, account: Account, statistics: Statistics) -> None:
    """Log what closing could not finish, once and by name."""
    if account.sinks and statistics.cpu_share > _BUSY:
        log.warning(
            "serving subscribers and sinks took %.1f %% of a core beside training; "
            'deliver="process" takes sinks out of this process',
            statistics.cpu_share * 100,
        )
    if account.unwritten:
        log.warning(
            "%d events of %s could not be written before the time was over",
            account.unwritten,
            folder,
        )
    if account.abandoned:
        log.warning("subscribers still busy at the end: %s", ", ".join(account.abandoned))
    for sink in account.sinks:
        _report_sink(folder, sink)
    for name, count in account.unread.items():
        log.warning("subscriber %r left %d events unread; they are in the journal", name, count)


def _report_sink(folder: Path, sink: SinkAccount) -> None:
    if sink.dead or sink.missing:
        log.warning(
            "%s refused %d events for good (see %s), and %d were gone before they were sent",
            sink.name,
            sink.dead,
            folder / "dead" / f"{sink.name}.jsonl",
            sink.missing,
        )
    if not sink.complete:
        pending = "an unknown number of" if sink.pending is None else str(sink.pending)
        log.warning(
            "%s has got %d events; %s wait%s. Deliver them with: %s",
            sink.name,
            sink.delivered,
            pending,
            f" ({sink.reason})" if sink.reason else "",
            _delivers(folder, sink.name),
        )


def _delivers(folder: Path, name: str) -> str:
    """A command, or what a program calls where the command does not know the sink."""
    from bus import SINKS  # noqa: PLC0415 - a run whose sinks are complete does not pay for it

    if name in SINKS.installed():
        return f"hotloop sync {shlex.quote(str(folder))} --sink {name}"
    return f"bus.sync_run(pathlib.Path({str(folder)!r}), [...]), from a program that has this sink"
