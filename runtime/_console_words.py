"""What a console says of a run, in words: numbers, durations, events, and how delivery stands.

Whatever comes from outside is made harmless: no control character of it reaches a terminal.
"""

from collections.abc import Iterable

from bus import (
    AlertRaised,
    DecisionApplied,
    Evaluated,
    Event,
    MessageLogged,
    SinkAccount,
    Statistics,
)

_LONGEST = 500
"""Characters of one text that are shown."""

_BEHIND = 5.0
"""Seconds that a destination may be behind before it is told: most collect for one or two."""

_EXPECTED = frozenset(("superseded", "subscriber finished"))
"""Reasons for which a subscriber's events are dropped as it asked."""


def number(value: float) -> str:
    """Four significant digits, and no more characters than they need."""
    return f"{value:.4g}"


def count(value: int) -> str:
    """An integer with its thousands apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds as `m:ss`, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def speed(rate: float) -> str:
    """Steps a second, or seconds a step where those are more than one."""
    return f"{rate:.1f} it/s" if rate >= 1 else f"{1 / rate:.1f} s/it"


def named(metrics: Iterable[tuple[str, float]]) -> str:
    """Metrics with their names, in one line."""
    return "  ".join(f"{harmless(name)} {number(value)}" for name, value in metrics)


def harmless(text: str) -> str:
    """A text in one line, without what a terminal would obey."""
    shown = text[:_LONGEST] + "…" * (len(text) > _LONGEST)
    return "".join(each if each.isprintable() else " " for each in shown)


def in_words(event: Event) -> str | None:
    """The line that an event deserves, if it does."""
    match event:
        case Evaluated():
            dataset = "" if event.dataset is None else f" on {harmless(event.dataset)}"
            words = f"evaluated{dataset}  {named(event.metrics.items())}"
        case MessageLogged():
            words = harmless(event.text)
        case DecisionApplied():
            reason = f": {harmless(event.reason)}" if event.reason else ""
            words = f"{harmless(str(event.request['type']))} by {harmless(event.by)}{reason}"
        case AlertRaised():
            text = f": {harmless(event.text)}" if event.text else ""
            words = f"{event.level}: {harmless(event.title)}{text}"
        case _:
            return None
    return words if event.step is None else f"step {count(event.step)}: {words}"


def troubles(statistics: Statistics, now: float) -> list[str]:
    """What is late, refused or lost, each in a few words; none if all is well.

    Args:
        statistics: The run's.
        now: The time, in Unix seconds.
    """
    found = [words for each in statistics.sinks.values() for words in _of_sink(each, now)]
    for name, each in statistics.subscribers.items():
        lost = sum(number for why, number in each.dropped.items() if why not in _EXPECTED)
        if lost:
            found.append(f"{name} missed {count(lost)}")
    if statistics.dropped_count:
        found.append(f"{count(statistics.dropped_count)} events lost")
    if statistics.disk_error is not None:
        found.append(f"journal not written: {harmless(statistics.disk_error)}")
    return found


def _of_sink(sink: SinkAccount, now: float) -> Iterable[str]:
    behind = 0.0 if sink.waiting_since is None else now - sink.waiting_since
    if sink.status in ("backing off", "suspended", "waiting"):
        yield f"{sink.name} {sink.status}"
    if behind >= _BEHIND:
        yield f"{sink.name} {duration(behind)} behind"
    if sink.dead:
        yield f"{sink.name} refused {count(sink.dead)}"
    if sink.missing:
        yield f"{sink.name} missed {count(sink.missing)}"
