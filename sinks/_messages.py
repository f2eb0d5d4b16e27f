"""Says in a few words, in the forms that chats take, what happened in a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from bus import AlertRaised, Event, Level, Outcome, RunEnded, RunStarted, mask_urls

_LEVELS: Final[Mapping[Outcome, Level]] = {
    "finished": "info",
    "stopped": "info",
    "preempted": "warning",
    "failed": "error",
    "crashed": "error",
}

SLACK_SECTION: Final = 3000
"""Characters of one block's text."""
_SLACK_MARKS: Final[Mapping[Level, str]] = {
    "debug": "",
    "info": "",
    "warning": ":warning: ",
    "error": ":red_circle: ",
}
_ENTITY_CUT: Final = re.compile(r"&[a-z]{0,3}\Z")

_DISCORD_TITLE: Final = 256
_DISCORD_DESCRIPTION: Final = 4096
DISCORD_EMBEDS: Final = 6000
"""Characters of all embeds of a message together."""
_DISCORD_COLOURS: Final[Mapping[Level, int]] = {
    "debug": 0x95A5A6,
    "info": 0x2ECC71,
    "warning": 0xF1C40F,
    "error": 0xE74C3C,
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


def slack_text(text: str, limit: int) -> str:
    """A text that Slack shows as it is: escaped, and cut without splitting an escape."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(escaped) <= limit:
        return escaped
    return _ENTITY_CUT.sub("", escaped[: limit - 3]) + "..."


def slack_section(message: Message) -> JsonValue:
    """A message as a block of Slack's."""
    title = " ".join(message.title.split()).replace("*", "\u2217")
    head = f"{_SLACK_MARKS[message.level]}*{slack_text(title, 300)}*"
    text = slack_text(message.text, SLACK_SECTION - len(head) - 1)
    # Verbatim, or Slack would turn names of channels and people in it into links.
    return {
        "type": "section",
        "text": {"type": "mrkdwn", "text": f"{head}\n{text}".rstrip(), "verbatim": True},
    }


def discord_embed(message: Message, share: int) -> JsonValue:
    """A message as an embed of Discord's, of at most `share` characters."""
    title = cut(message.title, min(_DISCORD_TITLE, share))
    room = min(_DISCORD_DESCRIPTION, share - _units(title))
    return {
        "title": title,
        "description": cut(message.text, room),
        "color": _DISCORD_COLOURS[message.level],
        "timestamp": datetime.fromtimestamp(message.time, UTC).isoformat(),
    }


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
