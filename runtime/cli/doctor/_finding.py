"""What a check of `hotloop doctor` says: one fact, how bad it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warn", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        check: What was looked at, in a word or two.
        level: `problem` makes the command exit with 1.
        found: What is the case.
        advice: What to do about it; empty when nothing need be done.
    """

    check: str
    level: Level
    found: str
    advice: str = ""
