"""Says in a few words, for people in a chat, what happened in a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bus import AlertRaised, Event, Level, Outcome, RunEnded, RunStarted, mask_urls

_LEVELS: Final[Mapping[Outcome, Level]] = {
    "finished": "info",
    "stopped": "info",
    "preempted": "warning",
    "failed": "error",
    "crashed": "error",
}


@dataclass(frozen=True, slots=True)
class Message:
    """What people read.

    Attributes:
        title: One line.
        text: More of it; "" if that is all.
        time: When it happened, in Unix seconds.
    """

    title: str
    text: str
    level: Level
    time: float


def message_of(event: Event, run: str) -> Message | None:
    """The message about an event; None if it is none for people.

    Args:
        event: What happened.
        run: What the run is called.
    """
    at = "" if event.step is None else f" at step {event.step}"
    if isinstance(event, AlertRaised):
        return Message(f"{run}: {event.title}{at}", mask_urls(event.text), event.level, event.time)
    if isinstance(event, RunStarted):
        step = event.resumed_from_step
        how = "began" if step is None else f"goes on behind step {step}"
        number = "" if event.attempt == 1 else f" (attempt {event.attempt})"
        return Message(f"{run} {how}{number}", "", "info", event.time)
    if isinstance(event, RunEnded):
        return ending(run, event.outcome, event.time, event.error or event.reason or "")
    return None


def ending(run: str, outcome: Outcome, time: float, why: str = "") -> Message:
    """The message that a run is over."""
    said = f"was {outcome}" if outcome in ("preempted", "stopped") else outcome
    return Message(f"{run} {said}", mask_urls(why), _LEVELS[outcome], time)


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` UTF-16 units, the way chat services count; the end tells of it."""
    if _units(text) <= limit:
        return text
    encoded = text.encode("utf-16-le", "surrogatepass")[: 2 * max(0, limit - 3)]
    return encoded.decode("utf-16-le", "ignore") + "..."


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
