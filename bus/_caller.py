"""Who passes safe points: the thread, and the functions it was in, from the outermost."""

import sys
import threading
from dataclasses import dataclass
from types import CodeType, FrameType


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call came from.

    Attributes:
        thread: The thread's identifier.
        codes: The code of its functions, outermost first.
    """

    thread: int
    codes: tuple[CodeType, ...]

    @classmethod
    def here(cls) -> "Caller":
        """Where this call comes from, its caller left out."""
        return cls(threading.get_ident(), codes(sys._getframe(2)))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its documented name


def codes(frame: FrameType | None) -> tuple[CodeType, ...]:
    """The code of a frame and of those it was called from, outermost first."""
    found: list[CodeType] = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(found))
