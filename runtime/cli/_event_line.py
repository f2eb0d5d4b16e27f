"""One event as one line for people: when, which attempt, at which step, what, with which values."""

import time
from collections.abc import Callable
from typing import Final

import typer

from bus import Row
from runtime.cli._fields import Data, brief, mapping, number, text, whole
from runtime.cli._output import printable

_HEAD: Final = frozenset(("v", "seq", "type", "time", "step"))
_TYPE_WIDTH: Final = 17


def event_line(row: Row, *, colour: bool) -> str:
    """Renders an event without a newline; local time, the rank only where it is not 0."""
    data = row.data
    kind = text(data, "type") or "?"
    step = whole(data, "step")
    attempt = f"a{row.attempt}" + (f".r{row.rank}" if row.rank else "")
    where = f"{attempt:<3} {'' if step is None else f'step {step}':<11}"
    when, name = _clock(data), f"{printable(kind):<{_TYPE_WIDTH}}"
    if colour:
        when, name = typer.style(when, dim=True), typer.style(name, fg=_COLOURS.get(kind, "cyan"))
    return f"{when}  {where} {name}  {payload(kind, data)}".rstrip()


def payload(kind: str, data: Data) -> str:
    """What an event says beyond its type, time and step."""
    return _PAYLOADS.get(kind, _everything)(data)


def _clock(data: Data) -> str:
    seconds = number(data, "time")
    if seconds is None:
        return " " * 23
    try:
        local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:<23.6g}"
    return f"{local}.{int(seconds % 1 * 1000):03d}"


def _everything(data: Data) -> str:
    """Metrics by their own names first, then every field that says something."""
    parts = [f"{printable(key)}={brief(value)}" for key, value in mapping(data, "metrics").items()]
    parts += [
        f"{printable(key)}={brief(value)}"
        for key, value in data.items()
        if key not in _HEAD and key != "metrics" and value not in (None, "", [], {})
    ]
    return " ".join(parts)


def _run_started(data: Data) -> str:
    name, step = text(data, "name"), whole(data, "resumed_from_step")
    before = text(data, "previous_outcome")
    line = f"{printable(name or '?')}, attempt {whole(data, 'attempt') or '?'}"
    line += "" if step is None else f", resumed from step {step}"
    line += "" if before is None else f" (the one before: {printable(before)})"
    facts = mapping(data, "facts")
    pid, host = whole(facts, "pid"), text(facts, "host")
    return (
        line + ("" if pid is None else f", pid {pid}") + (f" on {printable(host)}" if host else "")
    )


def _run_ended(data: Data) -> str:
    words = (text(data, "outcome"), text(data, "error") or text(data, "reason"))
    return ": ".join(printable(word) for word in words if word)


def _request(data: Data) -> str:
    request = mapping(data, "request")
    values = [
        f"{printable(key)}={brief(value)}"
        for key, value in request.items()
        if key not in {"type", "by", "reason", "time"} and value is not None
    ]
    return " ".join([printable(text(request, "type") or "?"), *values])


def _decision(data: Data) -> str:
    by, reason = text(data, "by"), text(data, "reason")
    line = _request(data) + (f" by {printable(by)}" if by else "")
    return line + (f": {printable(reason)}" if reason else "")


def _refusal(data: Data) -> str:
    return f"{_decision(data)}; refused: {printable(text(data, 'why') or '?')}"


def _gap(data: Data) -> str:
    count = whole(data, "count") or 0
    return (
        f"{count} event{'' if count == 1 else 's'} lost: {printable(text(data, 'reason') or '?')}"
    )


def _message(data: Data) -> str:
    level = text(data, "level") or "info"
    return ("" if level == "info" else f"[{printable(level)}] ") + printable(
        text(data, "text") or ""
    )


def _alert(data: Data) -> str:
    words = (text(data, "title"), text(data, "text"))
    level = printable(text(data, "level") or "warning")
    return f"[{level}] " + ": ".join(printable(word) for word in words if word)


def _stall(data: Data) -> str:
    """What was found, without the stacks."""
    seconds = number(data, "seconds") or 0.0
    return f"{printable(text(data, 'text') or '?')} (for {seconds:.1f} s)"


def _console_line(data: Data) -> str:
    mark = "! " if text(data, "stream") == "stderr" else "| "
    return mark + printable((text(data, "text") or "").rstrip("\n"))


_PAYLOADS: Final[dict[str, Callable[[Data], str]]] = {
    "run_started": _run_started,
    "run_ended": _run_ended,
    "decision_applied": _decision,
    "request_refused": _refusal,
    "gap": _gap,
    "message_logged": _message,
    "alert_raised": _alert,
    "stall_detected": _stall,
    "console_line_logged": _console_line,
}
_COLOURS: Final = {
    "run_started": "green",
    "run_ended": "green",
    "decision_applied": "yellow",
    "request_refused": "yellow",
    "gap": "red",
    "alert_raised": "red",
    "stall_detected": "red",
    "stall_ended": "green",
    "straggler_detected": "red",
    "subscriber_failed": "red",
    "evaluated": "blue",
}
